//! The roster: the last known state of every role, so that the mount's health is known without a storage call
//! per role.
//!
//! It is filled by the first pass over the roles when the work begins, and updated by every read or write of
//! a role under its lock. The cost of a status read does not grow with the number of idle roles. In memory
//! only, not stored.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::engine::error::Error;
use crate::engine::names::RoleName;
use crate::engine::role::Role;
use crate::engine::role::budget::{Level, Watch};
use crate::engine::role::dynamic::DynamicRole;
use crate::engine::role::rotating::{Health, RotatingRole, SupersededKey};
use crate::logical::StorageError;

/// The roster of a mount.
#[derive(Default)]
pub struct Roster(Mutex<Rolls>);

#[derive(Default)]
struct Rolls {
    roles: HashMap<RoleName, Seen>,
    by_condition: BTreeMap<Condition, usize>,
    with_problems: BTreeSet<RoleName>,
    /// Roles with an alert, by the end of its window; `None` sorts first and never ends.
    alerts: BTreeSet<(Option<Timestamp>, RoleName)>,
    rotations: BTreeSet<(Timestamp, RoleName)>,
    revocations: BTreeSet<(Timestamp, RoleName)>,
    current_keys: usize,
    superseded_keys: usize,
    held_keys: usize,
    complete_since: Option<Timestamp>,
}

/// The last known state of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its condition.
    pub condition: Condition,
    /// What a person should know about it; empty if there is nothing.
    pub problems: Vec<String>,
    /// What is to be said of its budget while the alert's window lasts.
    pub alert: Option<Box<Alarm>>,
    /// When its current key is to be rotated automatically.
    pub next_rotation: Option<Timestamp>,
    /// When the first of its superseded keys is to be revoked.
    pub next_revocation: Option<Timestamp>,
    /// The number of superseded keys that the engine has not disabled.
    pub superseded: usize,
    /// The number of held keys.
    pub held: usize,
}

/// A budget that is nearly spent, or spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    level: Level,
    ends_at: Option<Timestamp>,
    message: String,
}

impl Alarm {
    /// The alarm for the last report about a role, if it still holds.
    fn of(watch: Option<Watch>, now: Timestamp) -> Option<Self> {
        let watch = watch?;
        let alert = watch.last.filter(|alert| alert.holds(now))?;
        Some(Self {
            level: alert.level,
            ends_at: alert.ends_at(),
            message: alert.in_words(&watch.budget),
        })
    }
}

/// The condition of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// A rotating role without problems, or with one that the engine is about to fix.
    Well,
    /// A rotating role whose last rotation failed, or that waits for a person.
    Failed,
    /// A dynamic role.
    Dynamic,
    /// A role whose entry cannot be read.
    Unreadable,
}

impl Condition {
    /// The kind of role, as users see it.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Well | Self::Failed => "rotating",
            Self::Dynamic => "dynamic",
            Self::Unreadable => "unreadable",
        }
    }

    /// The condition, as users see it.
    pub fn status(self) -> &'static str {
        match self {
            Self::Well | Self::Dynamic => "success",
            Self::Failed | Self::Unreadable => "failed",
        }
    }
}

/// A summary of all roles.
#[derive(Debug)]
pub struct Summary {
    /// Since when every role is on the roster; `None` during the first pass.
    pub complete_since: Option<Timestamp>,
    /// The number of roles by condition.
    pub by_condition: BTreeMap<Condition, usize>,
    /// The number of roles that need attention.
    pub with_problems: usize,
    /// The roles that need attention, at most [`MAX_NAMED`], and the reasons.
    pub problems: BTreeMap<RoleName, Vec<String>>,
    /// The number of roles whose budget is nearly spent, or spent.
    pub alerts: BTreeMap<Level, usize>,
    /// Rotations that are overdue.
    pub overdue_rotations: Overdue,
    /// Revocations that are overdue.
    pub overdue_revocations: Overdue,
    /// The number of current keys of rotating roles.
    pub current_keys: usize,
    /// The number of keys that were replaced and may still work.
    pub superseded_keys: usize,
    /// The number of keys that were replaced and are disabled until they are deleted.
    pub held_keys: usize,
}

/// Overdue work.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Overdue {
    /// The number of roles concerned.
    pub count: usize,
    /// Since when the first one is overdue.
    pub since: Option<Timestamp>,
    /// The roles, at most [`MAX_NAMED`], the longest overdue first.
    pub roles: Vec<RoleName>,
}

impl Roster {
    /// Records that a role was read, stored, or found to be gone. If storage could not be read, the last
    /// known state is kept.
    pub fn note(&self, name: &RoleName, read: &Result<Option<Role>, Error>, now: Timestamp) {
        match read {
            Ok(Some(Role::Rotating(role))) => self.note_rotating(name, role, now),
            Ok(Some(Role::Dynamic(role))) => self.note_dynamic(name, role, now),
            Ok(None) => self.rolls().remove(name),
            Err(reason @ Error::Storage(StorageError::Malformed { .. })) => {
                let seen = Seen {
                    problems: vec![reason.to_string()],
                    ..plain(Condition::Unreadable)
                };
                self.rolls().set(name, seen);
            }
            Err(_) => {}
        }
    }

    /// The same for a rotating role that was read or stored.
    pub fn note_rotating(&self, name: &RoleName, role: &RotatingRole, now: Timestamp) {
        let Health {
            is_failed,
            problems,
            next_rotation,
        } = Health::of(role, now);
        let held = role.superseded.iter().filter(|key| key.stage.is_held());
        let held = held.count();
        let condition = match is_failed {
            true => Condition::Failed,
            false => Condition::Well,
        };
        let seen = Seen {
            condition,
            problems,
            alert: Alarm::of(role.watch(), now).map(Box::new),
            next_rotation,
            next_revocation: role
                .superseded
                .iter()
                .filter_map(|key| ends_at(role, key))
                .min(),
            superseded: role.superseded.len() - held,
            held,
        };
        self.rolls().set(name, seen);
    }

    /// The same for a dynamic role.
    pub fn note_dynamic(&self, name: &RoleName, role: &DynamicRole, now: Timestamp) {
        let seen = Seen {
            problems: problems(role).into_iter().collect(),
            alert: Alarm::of(role.watch(), now).map(Box::new),
            ..plain(Condition::Dynamic)
        };
        self.rolls().set(name, seen);
    }

    /// Removes a role that is gone.
    pub fn remove(&self, name: &RoleName) {
        self.rolls().remove(name);
    }

    /// Records that every role is on the roster.
    pub fn complete(&self, now: Timestamp) {
        self.rolls().complete_since = Some(now);
    }

    /// Clears the roster when this node no longer manages the roles.
    pub fn clear(&self) {
        *self.rolls() = Rolls::default();
    }

    /// Whether every role is on it.
    pub fn is_complete(&self) -> bool {
        self.rolls().complete_since.is_some()
    }

    /// The last known state of a role.
    pub fn seen(&self, name: &RoleName) -> Option<Seen> {
        self.rolls().roles.get(name).cloned()
    }

    /// The summary of all roles. The cost depends only on the roles that have something to report.
    pub fn summary(&self, now: Timestamp) -> Summary {
        let mut rolls = self.rolls();
        rolls.end_alerts(now);
        let named = rolls.with_problems.iter().take(MAX_NAMED);
        let problems = named.filter_map(|name| {
            let seen = rolls.roles.get(name)?;
            let alert = seen.alert.iter().map(|alert| alert.message.clone());
            let problems = seen.problems.iter().cloned();
            Some((name.clone(), problems.chain(alert).collect()))
        });
        Summary {
            complete_since: rolls.complete_since,
            by_condition: rolls.by_condition.clone(),
            with_problems: rolls.with_problems.len(),
            problems: problems.collect(),
            alerts: rolls.count_alerts(),
            overdue_rotations: overdue(&rolls.rotations, now),
            overdue_revocations: overdue(&rolls.revocations, now),
            current_keys: rolls.current_keys,
            superseded_keys: rolls.superseded_keys,
            held_keys: rolls.held_keys,
        }
    }

    fn rolls(&self) -> MutexGuard<'_, Rolls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a person should know about a dynamic role.
fn problems(role: &DynamicRole) -> Option<String> {
    let failure = role.guardrail_failure.as_ref()?;
    Some(format!(
        "keys under leases do not have the role's guardrail yet: {}",
        failure.message
    ))
}

fn plain(condition: Condition) -> Seen {
    Seen {
        condition,
        problems: Vec::new(),
        alert: None,
        next_rotation: None,
        next_revocation: None,
        superseded: 0,
        held: 0,
    }
}

/// When a superseded key is to be deleted or disabled; `None` if a person has to decide about it.
fn ends_at(role: &RotatingRole, key: &SupersededKey) -> Option<Timestamp> {
    let waits = key.awaits_person.is_some() && !key.emergency && !key.stage.is_held();
    (!waits).then(|| role.end_due(key))
}

fn overdue(times: &BTreeSet<(Timestamp, RoleName)>, now: Timestamp) -> Overdue {
    let mut overdue = Overdue::default();
    for (at, name) in times.iter().take_while(|(at, _)| *at <= now) {
        overdue.count += 1;
        overdue.since = overdue.since.or(Some(*at));
        if overdue.roles.len() < MAX_NAMED {
            overdue.roles.push(name.clone());
        }
    }
    overdue
}

impl Rolls {
    fn set(&mut self, name: &RoleName, seen: Seen) {
        self.remove(name);
        *self.by_condition.entry(seen.condition).or_default() += 1;
        if !seen.problems.is_empty() || seen.alert.is_some() {
            self.with_problems.insert(name.clone());
        }
        if let Some(alert) = &seen.alert {
            self.alerts.insert((alert.ends_at, name.clone()));
        }
        if let Some(at) = seen.next_rotation {
            self.rotations.insert((at, name.clone()));
        }
        if let Some(at) = seen.next_revocation {
            self.revocations.insert((at, name.clone()));
        }
        self.current_keys += usize::from(seen.condition.has_current_key());
        self.superseded_keys += seen.superseded;
        self.held_keys += seen.held;
        self.roles.insert(name.clone(), seen);
    }

    /// Removes the alerts whose window has ended. Nothing else may happen to a role then.
    fn end_alerts(&mut self, now: Timestamp) {
        let alerts = self.alerts.iter();
        let over: Vec<RoleName> = alerts
            .skip_while(|(ends_at, _)| ends_at.is_none())
            .take_while(|(ends_at, _)| ends_at.is_some_and(|end| end <= now))
            .map(|(_, name)| name.clone())
            .collect();
        for name in over {
            if let Some(seen) = self.roles.get(&name).cloned() {
                self.set(
                    &name,
                    Seen {
                        alert: None,
                        ..seen
                    },
                );
            }
        }
    }

    fn count_alerts(&self) -> BTreeMap<Level, usize> {
        let mut counts = BTreeMap::from(Level::ALL.map(|level| (level, 0)));
        for (_, name) in &self.alerts {
            let alert = self.roles.get(name).and_then(|seen| seen.alert.as_ref());
            if let Some(count) = alert.and_then(|alert| counts.get_mut(&alert.level)) {
                *count += 1;
            }
        }
        counts
    }

    fn remove(&mut self, name: &RoleName) {
        let Some(seen) = self.roles.remove(name) else {
            return;
        };
        if let Some(count) = self.by_condition.get_mut(&seen.condition) {
            *count -= 1;
        }
        self.with_problems.remove(name);
        if let Some(alert) = seen.alert {
            self.alerts.remove(&(alert.ends_at, name.clone()));
        }
        if let Some(at) = seen.next_rotation {
            self.rotations.remove(&(at, name.clone()));
        }
        if let Some(at) = seen.next_revocation {
            self.revocations.remove(&(at, name.clone()));
        }
        self.current_keys -= usize::from(seen.condition.has_current_key());
        self.superseded_keys -= seen.superseded;
        self.held_keys -= seen.held;
    }
}

impl Condition {
    fn has_current_key(self) -> bool {
        matches!(self, Self::Well | Self::Failed)
    }
}

/// Maximum number of roles that are named, per kind of news.
pub const MAX_NAMED: usize = 100;

#[cfg(test)]
mod tests;
