//! What the living leases of each role add up to, so that a read need not go through all of them.

use std::collections::HashMap;

use super::Record;
use crate::engine::names::RoleName;
use crate::engine::role::budget::Total;
use crate::framework::wal::Summary;

/// The leases of all roles.
#[derive(Default)]
pub struct ByRole(HashMap<RoleName, OfRole>);

#[derive(Clone, Copy, Default)]
struct OfRole {
    records: usize,
    /// Those whose keys were disabled and wait for their final readings.
    ended: usize,
    /// What their keys may spend.
    granted: Total,
}

impl ByRole {
    /// The number of a role's leases that have not ended.
    pub fn living(&self, role: &RoleName) -> usize {
        let of_role = self.of(role);
        of_role.records.saturating_sub(of_role.ended)
    }

    /// What the keys of a role's leases may spend, including those that have ended.
    pub fn granted(&self, role: &RoleName) -> Total {
        self.of(role).granted
    }

    fn of(&self, role: &RoleName) -> OfRole {
        self.0.get(role).copied().unwrap_or_default()
    }
}

impl Summary<Record> for ByRole {
    fn add(&mut self, record: &Record) {
        let role = &record.key.role;
        if !self.0.contains_key(role) {
            self.0.insert(role.clone(), OfRole::default());
        }
        if let Some(of_role) = self.0.get_mut(role) {
            of_role.records += 1;
            of_role.ended += usize::from(record.ended.is_some());
            of_role.granted.add(record.may_spend());
        }
    }

    fn remove(&mut self, record: &Record) {
        let role = &record.key.role;
        let Some(of_role) = self.0.get_mut(role) else {
            return;
        };
        of_role.records = of_role.records.saturating_sub(1);
        let ended = usize::from(record.ended.is_some());
        of_role.ended = of_role.ended.saturating_sub(ended);
        of_role.granted.remove(record.may_spend());
        if of_role.records == 0 {
            self.0.remove(role);
        }
    }
}
