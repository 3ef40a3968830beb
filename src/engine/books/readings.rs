//! OpenRouter's last reports about the keys of roles. Listings of the comparisons report keys with a budget
//! or `track_usage`; other requests that return what a key has spent report any key. Nothing is requested for
//! this. In memory only: after a restart the first comparison fills it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::engine::names::RoleName;
use crate::engine::role::budget::Report;
use crate::openrouter::KeyHash;

/// Boxed, since most roles have one key and a map has spare capacity.
type Roles = HashMap<RoleName, HashMap<KeyHash, Box<Report>>>;

/// The last reports about the keys of a mount.
#[derive(Default)]
pub struct Readings {
    // A plain mutex: it is never held across an await.
    roles: Mutex<Roles>,
}

impl Readings {
    /// Records a report about a key of a role, in place of the one before, whatever its time: the clock may
    /// have been ahead then.
    ///
    /// The key may have ended since OpenRouter was asked. `exists` is called after the report is recorded, and
    /// a key is removed from where `exists` looks before it is [forgotten](Self::forget) here. So the report
    /// does not stay, whichever comes first.
    pub fn note(
        &self,
        role: &RoleName,
        hash: &KeyHash,
        report: Report,
        exists: impl FnOnce() -> bool,
    ) {
        self.insert(role, hash, report);
        if !exists() {
            self.forget(role, hash);
        }
    }

    fn insert(&self, role: &RoleName, hash: &KeyHash, report: Report) {
        let mut roles = self.roles();
        if !roles.contains_key(role) {
            roles.insert(role.clone(), HashMap::new());
        }
        let Some(keys) = roles.get_mut(role) else {
            return;
        };
        match keys.get_mut(hash) {
            Some(last) => **last = report,
            None => _ = keys.insert(hash.clone(), Box::new(report)),
        }
    }

    /// The last report about a key of a role.
    pub fn of(&self, role: &RoleName, hash: &KeyHash) -> Option<Report> {
        let roles = self.roles();
        let report = roles.get(role)?.get(hash)?;
        Some(Report::clone(report))
    }

    /// Forgets a key of a role.
    pub fn forget(&self, role: &RoleName, hash: &KeyHash) {
        let mut roles = self.roles();
        if let Some(keys) = roles.get_mut(role) {
            keys.remove(hash);
            if keys.is_empty() {
                roles.remove(role);
            }
        }
    }

    /// Forgets a role's keys that do not exist any more.
    pub fn retain(&self, role: &RoleName, exists: impl Fn(&KeyHash) -> bool) {
        let mut roles = self.roles();
        if let Some(keys) = roles.get_mut(role) {
            keys.retain(|hash, _| exists(hash));
            if keys.is_empty() {
                roles.remove(role);
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.roles().clear();
    }

    fn roles(&self) -> MutexGuard<'_, Roles> {
        self.roles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::engine::role::budget::Counting;
    use crate::openrouter::Key;

    const EVER: Counting = Counting {
        reset: None,
        include_byok: false,
    };

    fn hash(number: u64) -> KeyHash {
        KeyHash::parse(&format!("{number:064x}")).unwrap()
    }

    fn report(usage: f64, second: i64) -> Report {
        let key = json!({"hash": "0".repeat(64), "usage": usage});
        let key: Key = serde_json::from_value(key).unwrap();
        Report::of_key(&key, Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn the_latest_report_about_a_key_counts_until_the_key_is_gone() {
        let (readings, role) = (Readings::default(), RoleName::new("app").unwrap());
        readings.note(&role, &hash(1), report(1.0, 20), || true);
        // The clock was ahead.
        readings.note(&role, &hash(1), report(2.0, 10), || true);
        readings.note(&role, &hash(2), report(3.0, 10), || true);
        let spent = |number| {
            let report = readings.of(&role, &hash(number))?;
            Some(report.reading(EVER).spent.as_usd())
        };
        assert_eq!((spent(1), spent(2)), (Some(2.0), Some(3.0)));
        readings.note(&role, &hash(1), report(4.0, 30), || true);
        readings.retain(&role, |key| *key == hash(1));
        assert_eq!((spent(1), spent(2)), (Some(4.0), None));
        readings.forget(&role, &hash(1));
        assert!(readings.roles().is_empty());
    }

    #[test]
    fn a_report_does_not_stay_if_its_key_ends_before_it_is_recorded_or_right_after() {
        let (readings, role) = (Readings::default(), RoleName::new("ci").unwrap());
        readings.note(&role, &hash(1), report(1.0, 10), || false);
        assert!(readings.roles().is_empty());
        let ends_after_the_check = || true;
        readings.note(&role, &hash(1), report(1.0, 10), ends_after_the_check);
        readings.forget(&role, &hash(1));
        assert!(readings.roles().is_empty());
    }

    #[test]
    fn another_node_leaves_no_old_reports_behind() {
        let (readings, role) = (Readings::default(), RoleName::new("app").unwrap());
        readings.note(&role, &hash(1), report(1.0, 10), || true);
        assert!(readings.of(&role, &hash(1)).is_some());
        readings.clear();
        assert!(readings.of(&role, &hash(1)).is_none());
    }
}
