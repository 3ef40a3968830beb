//! Counts of what happened.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::LEASED;
use crate::harness::OpenRouter;

/// How often something happened.
#[derive(Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All that is counted.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) faults: Count,
    pub(super) plugin_kills: Count,
    pub(super) server_kills: Count,
    pub(super) step_downs: Count,
    pub(super) failovers: Count,
    pub(super) restores: Count,
    pub(super) given_up: Count,
    pub(super) in_time: Count,
    pub(super) undone: Count,
    pub(super) keys_handed_out: Count,
    pub(super) leases: Count,
    pub(super) revocations: Count,
    pub(super) unanswered: Count,
    pub(super) early_deaths: Count,
    pub(super) without_a_key: Count,
}

impl Counts {
    /// Events that must never happen.
    pub(super) fn violations(&self) -> u64 {
        self.early_deaths.get() + self.without_a_key.get()
    }

    pub(super) fn report(&self, openrouter: &OpenRouter) {
        let requests: BTreeMap<_, _> = openrouter.requests().counts();
        let living = openrouter.hashes().len();
        // A restored role counts its keys from an earlier number.
        let account = openrouter.account();
        let ordered = account.all_keys();
        let shared = ordered.iter().filter(|key| !key.name.starts_with(LEASED));
        println!("keys made for roles       {}", shared.count());
        for (what, count) in [
            ("faults", &self.faults),
            ("plugin kills", &self.plugin_kills),
            ("server kills", &self.server_kills),
            ("step-downs", &self.step_downs),
            ("failovers", &self.failovers),
            ("snapshots restored", &self.restores),
            ("requests given up", &self.given_up),
            ("of that kind, in time", &self.in_time),
            ("shared keys handed out", &self.keys_handed_out),
            ("leases of own keys", &self.leases),
            ("leases revoked", &self.revocations),
            ("reads without an answer", &self.unanswered),
            ("promises lost by restores", &self.undone),
            ("keys that died early", &self.early_deaths),
            ("reads without a key", &self.without_a_key),
        ] {
            println!("{what:<25} {}", count.get());
        }
        println!("keys at OpenRouter        {living}, all of them known");
        println!("violations                {}", self.violations());
        println!("requests to OpenRouter    {requests:?}");
    }
}
