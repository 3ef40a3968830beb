//! Applications that spend with the keys that they were handed, until OpenRouter refuses them.

use std::sync::Arc;
use std::time::Duration;

use openrouter_simulator::{Call as Started, CallRefused, Price};
use tokio::time::sleep;

use super::{Call, Money, usd};
use crate::world::World;

/// The use of a key by an application.
#[derive(Default)]
struct Did {
    calls: u64,
    paid: Money,
    refused: Option<&'static str>,
}

impl World {
    /// Now and then an application spends with one of its keys.
    pub(crate) async fn applications_live(self: Arc<Self>) {
        if !self.budgets.are_there() {
            return;
        }
        loop {
            sleep(self.dice.pause(1_000, 900_000)).await;
            let Some(hash) = self.any_key_in_use() else {
                continue;
            };
            let calls = self.dice.number(1, 8);
            // Some spend all that they can.
            let calls = self.dice.weighted(&[(1, calls), (1, ALL)]);
            let at_once = self.dice.weighted(&[(5, 1), (2, 2), (1, 4)]);
            tokio::spawn(Arc::clone(&self).spend(hash, calls, at_once));
        }
    }

    /// Every holder of a key uses it until OpenRouter refuses it.
    pub(super) async fn spend_everything(self: &Arc<Self>) {
        let keys: Vec<String> = self.budgets.seen(|seen| {
            let keys = seen.keys.iter();
            let works = keys.filter(|(_, key)| key.is_handed_out && !key.is_dead && !key.is_busy);
            works.map(|(hash, _)| hash.clone()).collect()
        });
        let spending = keys.into_iter().map(|hash| {
            let world = Arc::clone(self);
            tokio::spawn(world.spend(hash, ALL, 2))
        });
        for spending in spending.collect::<Vec<_>>() {
            spending.await.unwrap();
        }
    }

    fn any_key_in_use(&self) -> Option<String> {
        let keys: Vec<String> = self.budgets.seen(|seen| {
            let keys = seen.keys.iter();
            let works = keys.filter(|(_, key)| key.is_handed_out && !key.is_dead && !key.is_busy);
            works.map(|(hash, _)| hash.clone()).collect()
        });
        (!keys.is_empty()).then(|| self.dice.pick(&keys).clone())
    }

    /// Makes this many calls, up to this many at a time, unless OpenRouter refuses them.
    async fn spend(self: Arc<Self>, hash: String, calls: u64, at_once: u64) {
        self.budgets
            .seen(|seen| seen.keys.entry(hash.clone()).or_default().is_busy = true);
        let each = calls.div_ceil(at_once);
        let callers = (0..at_once).map(|_| {
            let (world, hash) = (Arc::clone(&self), hash.clone());
            tokio::spawn(async move { world.call(&hash, each).await })
        });
        let mut did = Did::default();
        for caller in callers.collect::<Vec<_>>() {
            let one = caller.await.unwrap();
            did.calls += one.calls;
            did.paid += one.paid;
            did.refused = did.refused.or(one.refused);
        }
        self.budgets
            .seen(|seen| seen.keys.entry(hash.clone()).or_default().is_busy = false);
        if did.calls > 0 {
            let (name, paid) = (self.story.name(&hash), usd(did.paid));
            let until = did.refused.unwrap_or("it is done");
            let told = format!(
                "an application pays {paid} for {} calls with {name}, until {until}",
                did.calls
            );
            self.story.tell_of(&[&hash], told);
        }
    }

    /// Makes one call after the other.
    async fn call(&self, hash: &str, calls: u64) -> Did {
        let mut did = Did::default();
        for _ in 0..calls {
            let started = match self.start_call(hash) {
                Ok(started) => started,
                Err(why) => {
                    did.refused = Some(why);
                    break;
                }
            };
            let cost = self.dice.number(10_000, 150_000);
            let started = started.at_price(Price::usd(cost as f64 / 1e6));
            let place = self.budgets.seen(|seen| {
                let calls = &mut seen.keys.entry(hash.to_owned()).or_default().calls;
                calls.push(Call {
                    begun: self.now(),
                    charged: None,
                    cost,
                });
                calls.len() - 1
            });
            sleep(self.dice.pause(2_000, 30_000)).await;
            started.complete();
            let now = self.now();
            self.budgets.seen(|seen| {
                let calls = &mut seen.keys.entry(hash.to_owned()).or_default().calls;
                calls[place].charged = Some(now);
            });
            did.calls += 1;
            did.paid += cost;
            sleep(Duration::from_millis(self.dice.number(500, 3_000))).await;
        }
        did
    }

    /// Begins a call, or returns why it is refused.
    fn start_call(&self, hash: &str) -> Result<Started, &'static str> {
        for account in &self.openrouter.accounts {
            match account.begin_call(hash, "some/model") {
                Err(CallRefused::KeyDoesNotWork) => {}
                Err(CallRefused::Exhausted(_)) => return Err("its limit is spent"),
                Err(CallRefused::ModelNotAllowed) => return Err("its guardrail does not allow it"),
                Ok(started) => return Ok(started),
            }
        }
        let is_dead = self
            .key(hash)
            .is_none_or(|key| key.deleted_at.is_some() || key.is_expired(self.now()));
        self.budgets
            .seen(|seen| seen.keys.entry(hash.to_owned()).or_default().is_dead |= is_dead);
        Err("it does not work")
    }

    /// A key made by hand was used before a role adopted it.
    pub(crate) fn use_by_hand(&self, role: &str, hash: &str) {
        if !self.budgets.plan.contains_key(role) || self.dice.chance(0.3) {
            return;
        }
        let Ok(started) = self.start_call(hash) else {
            return;
        };
        let (cost, now) = (self.dice.number(100_000, 1_500_000), self.now());
        started.at_price(Price::usd(cost as f64 / 1e6)).complete();
        self.budgets.seen(|seen| {
            let key = seen.keys.entry(hash.to_owned()).or_default();
            key.calls.push(Call {
                begun: now,
                charged: Some(now),
                cost,
            });
        });
        let name = self.story.name(hash);
        self.story.tell_of(
            &[hash],
            format!("its application has paid {} with {name}", usd(cost)),
        );
    }
}

/// More calls than any budget pays for.
const ALL: u64 = 150;
