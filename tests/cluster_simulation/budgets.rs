//! Budgets: what the keys of a role spend in each window, whatever happens.
//!
//! In some lives roles have budgets, and applications spend with every key that they were handed, until
//! OpenRouter refuses it.
//!
//! - [`people`]: which roles have budgets, and who changes them. [`applications`]: who spends.
//! - [`windows`]: the outcome of each window. [`rest`]: what can be spent when everything is calm again.
//! - [`restored`]: what a restored snapshot does not know.
//!
//! # What must hold
//! - **In each window the keys of a role spend at most its budget and what they had in flight**: the largest
//!   budget that was in force in the window, or ten minutes before it. What a key had in flight is the most
//!   that was in flight within any three seconds: that is the longest time from a reading of the key until
//!   the limit that follows from it is in effect.
//! - **Nothing stays locked**: when nothing has gone wrong for hours, the current key may spend all that the
//!   ledger leaves for it, and after the next reset all that is neither spent nor granted to other keys. A
//!   role with room for a lease issues one.
//!
//! # Exceptions, and why
//! - **A restored snapshot**: what keys spend that are not in service according to the snapshot, until
//!   storage knows them again; what older keys may spend beyond what the snapshot says; and what keys that
//!   were deleted since had spent in the window beyond the limit that the snapshot says. OpenRouter reports
//!   nothing about deleted keys, so the engine counts them with that limit.
//! - **Limits that are raised, and keys that are enabled, outside the engine**: in the dashboard, by a
//!   request that arrives a second time, and by one that was sent before a snapshot was restored. A request
//!   that was sent cannot be called back, and OpenRouter's API has no conditional changes.
//! - **A budget that is lowered or redefined while OpenRouter cannot be reached**: the amount by which the
//!   limits of living keys exceed it when a window begins. Windows in which a role gets a budget, loses it,
//!   or gets another kind of window are not judged.
//! - **A teardown**: it does not wait until OpenRouter reports the last spending.
//! - **A key that was left behind, or whose role is gone**: the engine no longer limits it.

mod applications;
mod people;
mod rest;
mod restored;
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};
use openrouter_simulator::{Account, Key, LimitReset};
use reqwest::Method;
use serde_json::Value;
use sha2::{Digest, Sha256};
use vault_plugin_secrets_openrouter::openrouter::HttpRequest;

use crate::dice::Dice;
use crate::node::MOUNT;
use crate::openrouter::hash_in;
use crate::witness::Sent;
use crate::world::World;

pub(crate) use windows::Windows;

/// In millionths of a dollar.
type Money = u64;

/// What was observed about budgets in one life.
pub(crate) struct Budgets {
    /// The roles that will have budgets, and how often these reset.
    plan: BTreeMap<&'static str, Option<LimitReset>>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Keys that applications have, by their hashes.
    keys: BTreeMap<String, Held>,
    /// Those that are not in service according to a snapshot that was restored.
    unknown: BTreeSet<String>,
    excused: Vec<Excused>,
    /// By how much the limits of living keys exceeded the budget when the window began, with a reason.
    carried: BTreeMap<Life, Money>,
    windows: Windows,
    /// Since when nothing goes wrong.
    calm: Option<Timestamp>,
}

/// One life of a role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Life {
    role: String,
    /// The nonces of its keys contain it.
    mark: String,
}

/// A key that an application has.
#[derive(Default)]
struct Held {
    /// Unknown for a key made by hand that no role has adopted yet.
    life: Option<Life>,
    is_handed_out: bool,
    is_busy: bool,
    is_dead: bool,
    calls: Vec<Call>,
    /// How much of its spending nobody can know since a snapshot was restored then.
    forgotten: Option<(Timestamp, Money)>,
}

/// A call to a model.
struct Call {
    begun: Timestamp,
    /// When it was charged; `None` while it is in flight.
    charged: Option<Timestamp>,
    cost: Money,
}

/// Money that may be spent beyond the budget.
struct Excused {
    at: Timestamp,
    life: Life,
    amount: Money,
}

/// What a version of a role's entry says about its budget.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Terms {
    life: Life,
    budget: Option<(Money, Option<LimitReset>)>,
}

impl Terms {
    /// `None` if there is no role.
    pub(crate) fn of(role: &str, entry: Option<&[u8]>) -> Option<Self> {
        let entry: Value = serde_json::from_slice(entry?).ok()?;
        let (rotating, dynamic) = (&entry["entry"]["rotating"], &entry["entry"]["dynamic"]);
        let (life, terms) = match rotating {
            Value::Null => (&dynamic["life"], &dynamic["terms"]),
            rotating => (&rotating["life"], &rotating["definition"]["terms"]),
        };
        let life = life.as_str().filter(|life| !life.is_empty())?;
        let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(format!("{role}/{life}")));
        let budget = &terms["budget"];
        let reset = serde_json::from_value(budget["reset"].clone()).unwrap_or_default();
        Some(Self {
            life: Life {
                role: role.to_owned(),
                mark: format!("{a:02x}{b:02x}{c:02x}{d:02x}"),
            },
            budget: budget["amount"].as_u64().map(|amount| (amount, reset)),
        })
    }
}

impl Budgets {
    /// The budgets of a life, if it is to have some, and when the life begins.
    pub(crate) fn any(dice: &Dice) -> (Self, Timestamp) {
        let (plan, begins) = people::plan(dice);
        let seen = Mutex::default();
        (Self { plan, seen }, begins)
    }

    /// Whether this is a life with budgets.
    pub(crate) fn are_there(&self) -> bool {
        !self.plan.is_empty()
    }

    fn seen<T>(&self, act: impl FnOnce(&mut Seen) -> T) -> T {
        act(&mut self.seen.lock().unwrap())
    }
}

impl World {
    /// An application has the key from now on.
    pub(crate) fn hand_out(&self, hash: &str) {
        let Some(life) = self.life_of_key(hash) else {
            return;
        };
        self.budgets.seen(|seen| {
            let key = seen.keys.entry(hash.to_owned()).or_default();
            key.life.get_or_insert(life);
            key.is_handed_out = true;
        });
    }

    /// `None` for a key of a role that has no budget.
    fn life_of_key(&self, hash: &str) -> Option<Life> {
        let (role, nonce) = self.witness.whose(hash)?;
        if !self.budgets.plan.contains_key(role.as_str()) {
            return None;
        }
        let Some(mark) = nonce.get(8..16) else {
            let known = self.budgets.seen(|seen| seen.keys.get(hash)?.life.clone());
            return known.or_else(|| self.life_of(&role));
        };
        let mark = mark.to_owned();
        Some(Life { role, mark })
    }

    fn life_of(&self, role: &str) -> Option<Life> {
        let entry = self.raft.stored(&format!("{MOUNT}roles/{role}"));
        Some(Terms::of(role, entry.as_deref())?.life)
    }

    /// A request that changes a key is about to take effect. Returns the key as it is before that, if that
    /// matters.
    pub(crate) fn before_change(&self, request: &HttpRequest) -> Option<Key> {
        let is_change = request.method == Method::PATCH && self.budgets.are_there();
        hash_in(request)
            .filter(|_| is_change)
            .and_then(|hash| self.key(hash))
    }

    /// The request has taken effect a second time, or although storage does not know that it was sent.
    pub(crate) fn after_change(&self, before: Option<Key>, sent: &Sent, is_repeated: bool) {
        let Some(before) = before else {
            return;
        };
        let is_late = self.now().duration_since(sent.at).as_secs() > 5;
        let is_stale = is_repeated || self.witness.was_restored_since(sent);
        let Some(key) = self.key(&before.hash) else {
            return;
        };
        if is_stale || (is_late && before.disabled && !key.disabled) {
            self.excuse_change(&before);
        }
    }

    /// A key was changed outside the engine.
    pub(crate) fn excuse_change(&self, before: &Key) {
        let Some(key) = self.key(&before.hash) else {
            return;
        };
        let limit = |key: &Key| key.limit.map_or(UNLIMITED, money);
        let raised = limit(&key).saturating_sub(limit(before));
        let enabled = match before.disabled && !key.disabled {
            true => limit(&key),
            false => 0,
        };
        let amount = raised.max(enabled);
        let Some(life) = self.life_of_key(&key.hash).filter(|_| amount > 0) else {
            return;
        };
        let (name, at) = (self.story.name(&key.hash), self.now());
        let told = format!("{name} may spend {} more than its role knows", usd(amount));
        self.story.tell_of(&[&key.hash], told);
        self.budgets
            .seen(|seen| seen.excused.push(Excused { at, life, amount }));
    }

    /// OpenRouter has deleted a key. The engine may have taken its final reading just before.
    pub(crate) fn excuse_unreported(&self, hash: &str) {
        if !self.budgets.are_there() || !self.was_torn_down() {
            return;
        }
        let Some(life) = self.life_of_key(hash) else {
            return;
        };
        let at = self.now();
        let lag = self
            .openrouter
            .simulator
            .billing()
            .rules()
            .reporting_lag_seconds;
        let read = at - SignedDuration::from_mins(1);
        let known = read - SignedDuration::from_secs(lag.cast_signed());
        self.budgets.seen(|seen| {
            let calls = seen.keys.get(hash).map_or(&[][..], |key| &key.calls);
            let unreported = calls
                .iter()
                .filter(|call| call.charged.is_none_or(|charged| charged > known));
            let amount = unreported.map(|call| call.cost).sum();
            if amount > 0 {
                seen.excused.push(Excused { at, life, amount });
            }
        });
    }

    /// A key as OpenRouter has it, living or deleted.
    pub(crate) fn key(&self, hash: &str) -> Option<Key> {
        let accounts = self.openrouter.accounts.iter();
        accounts.filter_map(|account| account.key(hash)).next()
    }

    /// The living keys of one life of a role, except those that no storage knows.
    fn living_of(&self, life: &Life) -> Vec<Key> {
        let of_life: BTreeSet<String> = self.budgets.seen(|seen| {
            let keys = seen.keys.iter();
            let keys = keys.filter(|(_, key)| key.life.as_ref() == Some(life));
            keys.map(|(hash, _)| hash.clone()).collect()
        });
        let now = self.now();
        let keys = self.openrouter.accounts.iter().flat_map(Account::keys);
        let is_of_life = |key: &Key| of_life.contains(&key.hash);
        keys.filter(|key| is_of_life(key) && !key.is_expired(now))
            .collect()
    }
}

impl Held {
    fn spent_between(&self, start: Timestamp, end: Timestamp) -> Money {
        let charged = |call: &&Call| call.charged.is_some_and(|at| start <= at && at < end);
        self.calls
            .iter()
            .filter(charged)
            .map(|call| call.cost)
            .sum()
    }
}

fn money(usd: f64) -> Money {
    (usd * 1e6).round() as Money
}

/// An amount in a readable form.
fn usd(amount: Money) -> String {
    match amount {
        UNLIMITED => "any amount".to_owned(),
        _ => format!("{:.3}", amount as f64 / 1e6),
    }
}

/// What a key without a limit may spend.
const UNLIMITED: Money = Money::MAX;
