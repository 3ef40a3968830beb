//! What a restored snapshot does not know of what keys have spent and may spend.

use jiff::Timestamp;
use openrouter_simulator::LimitReset;
use serde_json::Value;

use super::{Money, usd};
use crate::node::MOUNT;
use crate::raft::Map;
use crate::truth::Truth;
use crate::world::World;

impl World {
    /// A snapshot is about to be restored in which this is true.
    pub(crate) fn forget_spending(&self, snapshot: &Map, after: &Truth) {
        let is_in_service = |hash: &str| {
            let of_role = after.rotating.values().any(|role| {
                let superseded = role.superseded.iter().map(|(key, _)| key);
                superseded.chain([&role.current]).any(|key| key == hash)
            });
            let nonce = self.witness.whose(hash).map(|(_, nonce)| nonce);
            of_role || nonce.is_some_and(|nonce| after.log.get(&nonce) == Some(&true))
        };
        self.budgets.seen(|seen| {
            let unknown = seen.keys.keys().filter(|hash| !is_in_service(hash));
            let unknown: Vec<String> = unknown.cloned().collect();
            seen.unknown.extend(unknown);
        });
        for role in self.budgets.plan.keys() {
            let stored = snapshot.get(&format!("{MOUNT}roles/{role}"));
            let stored = stored.and_then(|stored| serde_json::from_slice::<Value>(stored).ok());
            let entry = &stored.unwrap_or_default()["entry"]["rotating"];
            let current = &entry["current"]["hash"];
            let reset = &entry["definition"]["terms"]["budget"]["reset"];
            let reset: Option<LimitReset> =
                serde_json::from_value(reset.clone()).unwrap_or_default();
            let grants = entry["ledger"]["grants"].as_array().into_iter().flatten();
            for grant in grants {
                let hash = grant["hash"].as_str().unwrap_or_default();
                let Some((mut key, then)) = self.key(hash).zip(grant["limit"].as_u64()) else {
                    continue;
                };
                if key.deleted_at.is_some() {
                    self.forget_ended(hash, reset, then);
                } else if grant["hash"] != *current {
                    key.limit = Some(then as f64 / 1e6);
                    self.excuse_change(&key);
                }
            }
        }
    }

    /// A key is deleted of which a snapshot says that it works, with this limit.
    fn forget_ended(&self, hash: &str, reset: Option<LimitReset>, limit: Money) {
        let now = self.now();
        let start = reset.map_or(Timestamp::MIN, |reset| reset.window_start(now));
        let amount = self.budgets.seen(|seen| {
            let key = seen.keys.get_mut(hash)?;
            let spent = key.spent_between(start, Timestamp::MAX);
            let amount = spent.checked_sub(limit).filter(|amount| *amount > 0)?;
            // The same snapshot may be restored again: what was spent once is excused once.
            let before = key.forgotten.filter(|(at, _)| *at >= start);
            let before = before.map_or(0, |(_, amount)| amount);
            key.forgotten = Some((now, amount.max(before)));
            Some(amount)
        });
        if let Some(amount) = amount {
            let (name, amount) = (self.story.name(hash), usd(amount));
            let told = format!("{name} is gone, and has spent {amount} more than its role knows");
            self.story.tell_of(&[hash], told);
        }
    }
}
