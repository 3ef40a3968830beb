//! What can be spent when everything is calm again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use openrouter_simulator::{Account, Key, LimitReset};
use serde_json::Value;
use tokio::time::sleep;

use super::{Life, Money, UNLIMITED, money, usd};
use crate::node::MOUNT;
use crate::people::DYNAMIC;
use crate::truth::Rotating;
use crate::world::World;

impl World {
    /// Nothing goes wrong from now on.
    pub(crate) fn note_calm(&self) {
        let now = self.now();
        self.budgets.seen(|seen| seen.calm = Some(now));
    }

    /// Waits for the next reset, if it is soon.
    pub(crate) async fn await_reset(self: &Arc<Self>) {
        let Some(reset) = self.budgets.plan.values().flatten().next() else {
            return;
        };
        let wait = reset.window_end(self.now()).duration_since(self.now());
        if wait < SignedDuration::from_hours(5) {
            // The engine asks for it a minute later, and reads what was unclear ten minutes after that.
            let wait = wait + SignedDuration::from_mins(40);
            sleep(Duration::try_from(wait).unwrap_or_default()).await;
        }
    }

    /// Applications spend everything, and the outcome of the last windows is judged.
    pub(crate) async fn judge_last_windows(self: &Arc<Self>) {
        if self.budgets.are_there() {
            self.spend_everything().await;
            self.judge_windows(self.now());
        }
    }

    /// Checks that the current key of a role has all that its ledger leaves for it, and after a reset in
    /// which nothing went wrong, all that is neither spent nor granted to others.
    pub(crate) fn judge_unlocked(&self, role: &str, entry: &Rotating) {
        let Some(stored) = self.raft.stored(&format!("{MOUNT}roles/{role}")) else {
            return;
        };
        let stored: Value = serde_json::from_slice(&stored).unwrap_or_default();
        let role_entry = &stored["entry"]["rotating"];
        let budget = &role_entry["definition"]["terms"]["budget"];
        let (Some(amount), Some(key)) = (budget["amount"].as_u64(), self.key(&entry.current))
        else {
            return;
        };
        let limit = key.limit.map_or(UNLIMITED, money);
        let left = left_by(&role_entry["ledger"], &entry.current, amount);
        let name = self.story.name(&entry.current);
        self.budgets.seen(|seen| seen.windows.unlocked += 1);
        if limit != left {
            let told = format!(
                "{name} of {role} may spend {}, and the ledger leaves {} for it",
                usd(limit),
                usd(left)
            );
            return self.violated(&told, &[&entry.current]);
        }
        let reset: Option<LimitReset> = serde_json::from_value(budget["reset"].clone()).unwrap();
        let Some((life, start)) = self.life_of(role).zip(self.calm_window(reset)) else {
            return;
        };
        let taken = self.taken(&life, &entry.current, start);
        if limit.saturating_add(taken) < amount {
            let told = format!(
                "{name} of {role} may spend {} of {}, although only {} is spent by others or granted to them",
                usd(limit),
                usd(amount),
                usd(taken)
            );
            self.violated(&told, &[&entry.current]);
        }
    }

    /// Whether a role that refuses a lease for lack of room really has none.
    pub(crate) fn has_no_room(&self, reason: &str) -> bool {
        let reset = self.budgets.plan.get(DYNAMIC).copied().flatten();
        let stored = self.raft.stored(&format!("{MOUNT}roles/{DYNAMIC}"));
        let stored: Value = stored
            .and_then(|stored| serde_json::from_slice(&stored).ok())
            .unwrap_or_default();
        let terms = &stored["entry"]["dynamic"]["terms"];
        let Some(amount) = terms["budget"]["amount"].as_u64() else {
            return false;
        };
        if !reason.contains("the budget of role") {
            return false;
        }
        let Some((life, start)) = self.life_of(DYNAMIC).zip(self.calm_window(reset)) else {
            return true;
        };
        let limit = terms["limits"]["limit"].as_f64().map_or(UNLIMITED, money);
        self.taken(&life, "", start).saturating_add(limit) > amount
    }

    /// When the current window began, if everything had been calm long before.
    fn calm_window(&self, reset: Option<LimitReset>) -> Option<Timestamp> {
        let (now, start) = (self.now(), reset?.window_start(self.now()));
        let calm = self.budgets.seen(|seen| seen.calm)?;
        let is_one = calm + SignedDuration::from_hours(2) < start
            && start + SignedDuration::from_mins(30) < now;
        is_one.then_some(start)
    }

    /// What keys other than this one have spent since then, or may spend.
    fn taken(&self, life: &Life, current: &str, start: Timestamp) -> Money {
        let keys = self.openrouter.accounts.iter().flat_map(Account::keys);
        let is_of_life = |key: &Key| self.life_of_key(&key.hash).as_ref() == Some(life);
        let mut living: BTreeMap<String, Money> = keys
            .filter(is_of_life)
            .map(|key| (key.hash, key.limit.map_or(UNLIMITED, money)))
            .collect();
        living.remove(current);
        let ended: Money = self.budgets.seen(|seen| {
            let of_life = seen.keys.iter();
            let of_life = of_life.filter(|(_, key)| key.life.as_ref() == Some(life));
            let ended = of_life.filter(|(hash, _)| *hash != current && !living.contains_key(*hash));
            let spent = ended.map(|(_, key)| key.spent_between(start, Timestamp::MAX));
            spent.sum()
        });
        living.into_values().fold(ended, Money::saturating_add)
    }
}

/// What a ledger leaves for one key.
fn left_by(ledger: &Value, current: &str, budget: Money) -> Money {
    let grants = ledger["grants"].as_array().into_iter().flatten();
    let others = grants.filter(|grant| grant["hash"] != current);
    let counts = |grant: &Value| {
        let amount = |value: &Value| value.as_u64().unwrap_or_default();
        let certain = match grant["is_final"] == true {
            true => amount(&grant["spent"]),
            false => amount(&grant["limit"]).max(amount(&grant["spent"])),
        };
        let possible = [&grant["pending"]["most"], &grant["unread"]["most"]];
        possible.into_iter().map(amount).fold(certain, Money::max)
    };
    let taken = others.map(counts).fold(0, Money::saturating_add);
    let ended = ledger["ended"].as_u64().unwrap_or_default();
    budget.saturating_sub(taken.saturating_add(ended))
}
