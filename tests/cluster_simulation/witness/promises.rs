//! What readers were promised, and whether it held: when a key is handed out, when one is deleted, and what a
//! restored snapshot leaves of it.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::{Promise, Sent};
use crate::people::DYNAMIC;
use crate::world::{Snapshot, World};

impl World {
    /// A reader was told that this key works for so many seconds.
    pub(crate) fn witness_promise(&self, hash: &str, ttl: u64, who: &str) {
        self.promise(hash, ttl, who, None);
    }

    /// The same, by this standby if there is one.
    pub(super) fn promise(&self, hash: &str, ttl: u64, who: &str, standby: Option<usize>) {
        self.hand_out(hash);
        let (now, until, name) = (self.now(), self.after(ttl), self.story.name(hash));
        self.story
            .tell_of(&[hash], format!("{who} gets {name}, for {ttl} s"));
        let accounts = &self.openrouter.accounts;
        let key = accounts.iter().find_map(|account| account.key(hash));
        let Some(key) = key else {
            return self.violated(&format!("{name} is handed out, which never was"), &[hash]);
        };
        let excused = self.witness.seen(|seen| {
            let role = seen
                .keys
                .get(hash)
                .map(|made| made.role.clone())
                .unwrap_or_default();
            let recently =
                |since: &Timestamp| now.duration_since(*since) < SignedDuration::from_mins(3);
            seen.excused.contains_key(hash)
                || seen.emergencies.get(&role).is_some_and(recently)
                || seen.deletions.contains_key(&role)
        });
        if excused {
            // It has still reached its reader.
            self.witness.seen(|seen| {
                seen.promises.entry(hash.to_owned()).or_default();
            });
            return;
        }
        if key.deleted_at.is_some() {
            if standby.is_none() || !self.was_ended_by_order(hash) {
                self.violated(&format!("{name} is handed out, which is dead"), &[hash]);
            }
            return;
        }
        if key.expires_at.is_some_and(|expiry| expiry < until) {
            return self.violated(&format!("{name} is handed out for too long"), &[hash]);
        }
        let (until, forgotten) = match standby {
            Some(_) => self.left_of(hash, ttl),
            None => (until, None),
        };
        self.witness.seen(|seen| {
            let order = seen.promised;
            seen.promised += 1;
            let promises = seen.promises.entry(hash.to_owned()).or_default();
            promises.push(Promise {
                given: now,
                order,
                until,
                forgotten,
                standby,
            });
        });
    }

    /// OpenRouter has deleted a key for the engine, or disabled it.
    pub(crate) fn witness_end(&self, hash: &str, sent: &Sent, how: &str) {
        let name = self.story.name(hash);
        self.story
            .tell_of(&[hash], format!("S{}: {name} is {how}", sent.server));
        let now = self.now();
        let Some((made, doomed, excused, left, restored)) = self.witness.seen(|seen| {
            let made = seen.keys.get(hash)?.clone();
            let doomed = seen.deletions.contains_key(&made.role);
            let excused = seen.excused.contains_key(hash);
            let left = seen.left_behind.get(hash).copied();
            Some((made, doomed, excused, left, sent.restores < seen.restores))
        }) else {
            return;
        };
        if doomed {
            self.witness.ended_by_order(hash);
        }
        if self.was_torn_down() {
            return;
        }
        let by_a_run = self.is_to_end_by_a_run(hash);
        if left.is_some_and(|since| since < sent.at) && !by_a_run {
            self.violated(&format!("{name}, which was left behind, is {how}"), &[hash]);
        }
        // A request that was on its way while the key was restored, or another leader began, ends the key
        // once more. The next comparison shows that.
        let is_late = how == "disabled" && now.duration_since(sent.at).as_secs() > 5;
        if doomed || excused || left.is_some() || is_late {
            return;
        }
        let truth = self.truth();
        let is_lost = self.witness.seen(|seen| seen.strays.contains(hash));
        if made.nonce.is_empty() && !restored && !is_lost && !truth.leads_to(hash, "") {
            let what = format!("{name}, which no role has adopted, is {how}");
            self.violated(&what, &[hash]);
            return;
        }
        for (role, entry) in &truth.rotating {
            let due = entry.superseded.iter().find(|(key, _)| key == hash);
            if restored {
            } else if entry.current == hash {
                self.violated(
                    &format!("{name}, which is current in {role}, is {how}"),
                    &[hash],
                );
                return;
            } else if let Some((_, due)) = due.filter(|(_, due)| *due > now) {
                let what = format!("{name}, superseded in {role} until {due}, is {how}");
                self.violated(&what, &[hash]);
                return;
            }
        }
        if by_a_run {
            // Until it has completed, readers may still get the old key.
            self.witness.emergency(&made.role, Some(now));
        } else if self.is_of_a_run_before_a_restore(hash, sent) {
            self.witness
                .excuse(hash, "a run from before a restore has ended it");
        } else if let Some(until) = self.broken_promise(hash, &made.role, now) {
            let what = format!("{name} is {how}, although its reader relies on it until {until}");
            self.violated(&what, &[hash]);
        }
    }

    fn broken_promise(&self, hash: &str, role: &str, now: Timestamp) -> Option<Timestamp> {
        self.witness.seen(|seen| {
            let emergency = seen.emergencies.get(role).copied();
            let slack = SignedDuration::from_mins(3);
            let excused = |promise: &&Promise| {
                // A reader may still get the old key while an emergency is carried out.
                emergency.is_some_and(|since| promise.given <= since + slack)
            };
            let promises = seen.promises.get(hash)?;
            // A renewed lease ends when the last renewal says so.
            let last = promises.len().saturating_sub(1);
            let standing = promises.iter().skip(if role == DYNAMIC { last } else { 0 });
            let binding = standing.filter(|promise| !excused(promise));
            let least = seen.least_use.get(role).copied().unwrap_or_default();
            let least = SignedDuration::from_secs(least.cast_signed());
            let until = binding.map(|promise| match promise.forgotten {
                Some(since) => (promise, promise.until.min(since + least)),
                None => (promise, promise.until),
            });
            let broken = until.filter(|(promise, until)| {
                *until > now && !self.is_shorter(promise, (hash, role), until.duration_since(now))
            });
            broken.map(|(_, until)| until).max()
        })
    }

    /// An emergency rotation was answered with this new key: no older key works any more. A disabled key may
    /// wait for its final reading.
    pub(crate) fn witness_emergency(&self, role: &str, new: &str) {
        let truth = self.truth();
        let superseded = truth.rotating.get(role).map(|role| role.superseded.clone());
        for (hash, _) in superseded.unwrap_or_default() {
            let mut living = self.living();
            if hash != new && living.any(|key| key.hash == hash && !key.disabled) {
                let name = self.story.name(&hash);
                self.violated(&format!("{name} has survived an emergency"), &[&hash]);
            }
        }
    }

    /// A key was created for a lease some time ago, and nothing has gone wrong since. It must not be alive if
    /// no reader got it.
    pub(crate) fn witness_unclaimed(&self, hash: &str) {
        let is_claimed = self.witness.seen(|seen| {
            let is_claimed = seen.promises.contains_key(hash) || seen.excused.contains_key(hash);
            is_claimed || seen.strays.contains(hash)
        });
        if !is_claimed && self.living().any(|key| key.hash == hash) {
            let name = self.story.name(hash);
            let what = format!("{name} lives, whose reader gave up two minutes ago");
            self.violated(&what, &[hash]);
        }
    }

    /// A snapshot is about to be restored.
    ///
    /// Promises from before it was taken hold. Later promises hold as far as they can be known: a key that
    /// the snapshot does not know, or knows only as ordered, stays for as long as its role's keys are in use,
    /// counted from now; a renewal is forgotten. A key that the snapshot has as
    /// replaced, and that an older snapshot made current again since, ends when the restored snapshot says.
    pub(crate) fn witness_restore(&self, snapshot: &Snapshot) {
        let (now, before) = (self.now(), self.truth());
        let after = self.truth_of(&snapshot.map);
        self.forget_spending(&snapshot.map, &after);
        let is_known = |promise: &Promise| promise.order < snapshot.promises;
        let living: BTreeSet<String> = self.living().map(|key| key.hash).collect();
        self.note_ending_by_runs(living.iter());
        self.witness.seen(|seen| {
            seen.restores += 1;
            seen.standbys.restored = Some(now);
            for (hash, made) in &seen.keys {
                let is_listed = after
                    .rotating
                    .values()
                    .any(|role| role.keys().any(|k| k == hash));
                let logged = after.log.get(&made.nonce);
                if !living.contains(hash) {
                    // It cannot come back.
                    seen.excused
                        .insert(hash.clone(), "it was dead before a restore");
                } else if !is_listed && logged.is_none() {
                    seen.strays.insert(hash.clone());
                }
                let Some(promises) = seen.promises.get_mut(hash) else {
                    continue;
                };
                match logged {
                    // The lease as it was when the snapshot was taken, or as it began.
                    Some(true) => {
                        let known = promises.iter().filter(|p| is_known(p)).count();
                        promises.truncate(known.max(1));
                    }
                    // Its owner will be unknown, so it will not be deleted.
                    None if !before.rotating.contains_key(&made.role) => {}
                    _ => {
                        let listed = after.rotating.get(&made.role);
                        let end = listed.and_then(|role| role.end_of(hash));
                        let end = end.filter(|_| {
                            self.was_current_since(&made.role, hash, snapshot.taken_at)
                        });
                        for promise in promises.iter_mut().filter(|p| !is_known(p)) {
                            promise.forgotten.get_or_insert(now);
                            promise.until = end.map_or(promise.until, |at| promise.until.min(at));
                        }
                    }
                }
            }
            // A key that was left behind since may have an owner again.
            let left: Vec<String> = std::mem::take(&mut seen.left_behind).into_keys().collect();
            seen.strays.extend(left);
            // Deletions that began since have never begun.
            let gone: Vec<_> = seen.deletions.keys().cloned().collect();
            for role in gone {
                if after
                    .rotating
                    .get(&role)
                    .is_some_and(|role| role.serves(self))
                {
                    seen.deletions.remove(&role);
                }
            }
            // Those that had begun continue, whatever happened to them since.
            let going = after.rotating.iter().filter(|(_, role)| role.is_going);
            seen.deletions
                .extend(going.map(|(role, _)| (role.clone(), now)));
        });
    }
}
