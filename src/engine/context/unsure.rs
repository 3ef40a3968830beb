//! Roles whose stored entry may differ from what is read.
//!
//! A store that is reported as failed may have been committed, immediately or a little later, without the
//! server's cache being updated. As long as it is the leader, this node then keeps reading and handing out
//! the previous state, while its successor reads the new one. Such a role is remembered until both are the
//! same again: see [`RoleGuard::confirm`](super::RoleGuard::confirm).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::engine::books::OUTLIVED;
use crate::engine::clock::after;
use crate::engine::names::RoleName;

/// The roles with a store whose outcome is unknown. Other roles cost nothing.
#[derive(Default)]
pub(super) struct Unsure {
    // A plain mutex: it is never held across an await.
    roles: Mutex<HashMap<RoleName, Doubt>>,
}

/// The doubt about a role's entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doubt {
    /// When the last store whose outcome is unknown began.
    pub(super) begun: Timestamp,
    /// Whether a later store has succeeded, so that the entry differs only if the earlier one takes effect
    /// after it.
    pub(super) is_overwritten: bool,
}

impl Doubt {
    /// The time after which the store can no longer take effect.
    pub(super) fn certain_at(&self) -> Timestamp {
        after(self.begun, OUTLIVED)
    }
}

impl Unsure {
    /// Records the start of a store. Its outcome is unknown until it has succeeded, whether it fails or nobody
    /// waits for its answer. Returns the earlier doubt.
    pub(super) fn store_begins(&self, role: &RoleName, now: Timestamp) -> Option<Doubt> {
        let doubt = Doubt {
            begun: now,
            is_overwritten: false,
        };
        self.roles().insert(role.clone(), doubt)
    }

    /// Records the success of the store that began at `begun`, which overwrites what was in doubt before.
    pub(super) fn store_succeeded(&self, role: &RoleName, begun: Timestamp, before: Option<Doubt>) {
        let mut roles = self.roles();
        match before.filter(|doubt| begun < doubt.certain_at()) {
            None => _ = roles.remove(role),
            Some(doubt) => {
                let is_overwritten = true;
                let doubt = Doubt {
                    is_overwritten,
                    ..doubt
                };
                roles.insert(role.clone(), doubt);
            }
        }
    }

    /// The doubt about a role.
    pub(super) fn of(&self, role: &RoleName) -> Option<Doubt> {
        self.roles().get(role).copied()
    }

    /// Forgets all doubts: this node does not confirm entries any more.
    pub(super) fn forget(&self, role: &RoleName) {
        self.roles().remove(role);
    }

    fn roles(&self) -> MutexGuard<'_, HashMap<RoleName, Doubt>> {
        self.roles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Timestamp {
        after(Timestamp::UNIX_EPOCH, second)
    }

    fn app() -> RoleName {
        RoleName::new("app").unwrap()
    }

    #[test]
    fn a_store_that_succeeds_leaves_no_doubt() {
        let unsure = Unsure::default();
        let before = unsure.store_begins(&app(), at(0));
        assert!(
            unsure.of(&app()).is_some(),
            "nobody may wait for its answer"
        );
        unsure.store_succeeded(&app(), at(0), before);
        assert!(unsure.of(&app()).is_none());
    }

    #[test]
    fn a_store_that_failed_is_in_doubt_until_one_that_cannot_be_overtaken() {
        let unsure = Unsure::default();
        unsure.store_begins(&app(), at(0));
        for (begun, settles) in [(1, false), (OUTLIVED - 1, false), (OUTLIVED, true)] {
            let before = unsure.store_begins(&app(), at(begun));
            unsure.store_succeeded(&app(), at(begun), before);
            let doubt = unsure.of(&app());
            assert_eq!(doubt.is_none(), settles, "{begun}");
            assert!(doubt.is_none_or(|doubt| doubt.is_overwritten));
        }
    }

    #[test]
    fn another_failure_is_a_later_doubt() {
        let unsure = Unsure::default();
        unsure.store_begins(&app(), at(0));
        unsure.store_begins(&app(), at(50));
        let doubt = unsure.of(&app()).unwrap();
        assert_eq!(doubt.certain_at(), at(50 + OUTLIVED));
        assert!(!doubt.is_overwritten);
    }
}
