//! What standbys promise, and what their promises are worth.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::{Promise, Witness};
use crate::world::World;

/// What was seen because of standbys.
#[derive(Default)]
pub(super) struct Seen {
    /// When a snapshot was last restored.
    pub(super) restored: Option<Timestamp>,
    /// Keys that died since their role was to be deleted.
    ended_by_order: BTreeSet<String>,
}

impl Witness {
    /// The key dies since its role is to be deleted.
    pub(super) fn ended_by_order(&self, hash: &str) {
        self.seen(|seen| seen.standbys.ended_by_order.insert(hash.to_owned()));
    }
}

impl World {
    /// A reader at a standby was told that this key works for so many seconds.
    pub(crate) fn witness_standby(&self, server: usize, hash: &str, ttl: u64) {
        let who = format!("a reader at S{server}, a standby,");
        self.promise(hash, ttl, &who, Some(server));
    }

    /// Whether an operator had the key ended, of which a standby may not have heard.
    pub(super) fn was_ended_by_order(&self, hash: &str) -> bool {
        let by_deletion = |seen: &super::Seen| seen.standbys.ended_by_order.contains(hash);
        self.witness.seen(|seen| by_deletion(seen)) || self.was_torn_down()
    }

    /// What is left of a promise that a standby gives for so many seconds, and since when storage has forgotten
    /// that this key is handed out, or for so long: the standby may not have heard yet of a restored snapshot.
    pub(super) fn left_of(&self, hash: &str, ttl: u64) -> (Timestamp, Option<Timestamp>) {
        let until = self.after(ttl);
        let kept = (until, None);
        let Some(restored) = self.witness.seen(|seen| seen.standbys.restored) else {
            return kept;
        };
        let recently = self.now().duration_since(restored) < SignedDuration::from_mins(3);
        let Some((role, _)) = self.witness.whose(hash).filter(|_| recently) else {
            return kept;
        };
        let longest = self.longest_ttl_since(&role, hash, restored);
        if longest.is_some_and(|longest| ttl <= longest) {
            return kept;
        }
        let truth = self.truth();
        let end = truth.rotating.get(&role).and_then(|role| role.end_of(hash));
        (end.map_or(until, |end| until.min(end)), Some(restored))
    }

    /// Whether the promise is shorter by so much, since the standby was too far behind.
    pub(super) fn is_shorter(
        &self,
        promise: &Promise,
        (hash, role): (&str, &str),
        by: SignedDuration,
    ) -> bool {
        let Some(server) = promise.standby else {
            return false;
        };
        let ttl = promise.until.duration_since(promise.given);
        let is_shorter = self.excess_lag(server, role, hash, (promise.given, ttl)) >= by;
        if is_shorter {
            self.count_shortened();
        }
        is_shorter
    }
}
