//! Reports when a large part of a role's budget is spent, or all of it: in the log, and on the event bus. The
//! status and the metrics take it from the role.
//!
//! Readings are recorded whenever a key is asked about for another reason, in
//! [`Readings`](crate::engine::books::Readings). If they show something to report, the keeper tends the role.
//! Only there, under the role's lock, is an alert raised. It is stored before it is sent, so that a failover
//! does not repeat it, and a node that has lost its leadership sends nothing.

use std::collections::HashMap;

use jiff::Timestamp;

use super::books::{Leases, Record};
use super::connection::{Link, Turn};
use super::context::{Engine, RoleGuard};
use super::error::Error;
use super::events;
use super::names::RoleName;
use super::role::Role;
use super::role::budget::{Alert, Amount, Counting, Report, Watch};
use super::role::dynamic::DynamicRole;
use super::role::rotating::{CurrentKey, RotatingRole};
use super::task::Task;
use crate::openrouter::{self, Bearer, Key, KeyHash};

/// Records what OpenRouter has reported about a key of a rotating role, unless it is no longer one of its
/// keys.
pub fn note(engine: &Engine, role: &RoleName, key: &Key) {
    note_of_rotating(engine, role, &key.hash, Report::of_key(key, engine.now()));
}

/// Asks a role's current key itself what it has spent, and records the answer: it does not lag, as OpenRouter's
/// reports do. `None` if the key may not be sent to the connection's address, or cannot authenticate: it was
/// disabled, has expired, or is gone.
///
/// # Errors
/// The error of the request.
pub async fn ask_itself(
    engine: &Engine,
    role: &RoleName,
    key: &CurrentKey,
    (link, turn): (&Link, &Turn),
) -> Result<Option<openrouter::CurrentKey>, openrouter::Error> {
    if !link.address().may_see_keys_of(&key.address) {
        return Ok(None);
    }
    match turn.current_key(&key.secret).await {
        Ok(itself) => {
            let report = Report::of_bearer(&itself, engine.now());
            note_of_rotating(engine, role, &key.hash, report);
            Ok(Some(itself))
        }
        Err(openrouter::Error::Unauthorized {
            bearer: Bearer::ApiKey,
            ..
        }) => Ok(None),
        Err(reason) => Err(reason),
    }
}

fn note_of_rotating(engine: &Engine, role: &RoleName, hash: &KeyHash, report: Report) {
    let exists = || engine.register.is_key_of(role, hash);
    engine.readings.note(role, hash, report, exists);
}

/// The same for the key of a lease, unless its record is gone.
pub fn note_leased(engine: &Engine, leases: &Leases, record: &Record, key: &Key) {
    let report = Report::of_key(key, engine.now());
    let exists = || leases.living(&record.key.nonce).is_some();
    let role = &record.key.role;
    engine.readings.note(role, &key.hash, report, exists);
}

/// Schedules every role whose readings show something to report. Uses memory only.
pub fn check_all(engine: &Engine) {
    let watched = engine.register.watched();
    if watched.is_empty() {
        return;
    }
    let mut leases = HashMap::<RoleName, Vec<Record>>::new();
    let has_leases = watched.iter().any(|(_, role)| role.keys.is_none());
    if let Some(books) = engine.books_if_open().filter(|_| has_leases) {
        for record in books.leases.all() {
            let of_role = leases.entry(record.key.role.clone()).or_default();
            of_role.push(record);
        }
    }
    let now = engine.now();
    for (name, role) in watched {
        let living = match &role.keys {
            Some(keys) => of_keys(engine, &name, &role.watch, keys.iter(), role.counting, now),
            None => {
                let records = leases.remove(&name).unwrap_or_default();
                let records = records.iter();
                of_leases(engine, &name, &role.watch, records, role.counting, now)
            }
        };
        if role.watch.due(living, now).is_some() {
            engine.keeper.now(Task::Tend(name));
        }
    }
}

/// The same for one role that was just read.
pub fn check(engine: &Engine, name: &RoleName, role: &Role) {
    let due = match role {
        Role::Rotating(role) => due_for_rotating(engine, name, role),
        Role::Dynamic(role) => due_for_dynamic(engine, name, role),
    };
    if due.is_some() {
        engine.keeper.now(Task::Tend(name.clone()));
    }
}

/// Raises the alert that is due for a rotating role, once. Readings of keys that are gone are forgotten.
///
/// # Errors
/// Errors from storage. Nothing is reported in that case.
pub async fn report_rotating(guard: &RoleGuard<'_>, role: &mut RotatingRole) -> Result<(), Error> {
    let (engine, name) = (guard.engine(), guard.name());
    engine.readings.retain(name, |hash| role.has_key(hash));
    let Some(due) = due_for_rotating(engine, name, role) else {
        return Ok(());
    };
    role.alert = Some(due);
    guard.store(role).await?;
    events::budget_alert(engine, name, &role.definition.terms, due).await;
    Ok(())
}

/// The same for a dynamic role.
///
/// # Errors
/// Errors from storage. Nothing is reported in that case.
pub async fn report_dynamic(guard: &RoleGuard<'_>, role: &mut DynamicRole) -> Result<(), Error> {
    let Some(due) = enter_dynamic(guard, role) else {
        return Ok(());
    };
    guard.store_dynamic(role).await?;
    events::budget_alert(guard.engine(), guard.name(), &role.terms, due).await;
    Ok(())
}

/// Records the alert of a dynamic role in the role, once the role is stored.
pub fn enter_dynamic(guard: &RoleGuard<'_>, role: &mut DynamicRole) -> Option<Alert> {
    let due = due_for_dynamic(guard.engine(), guard.name(), role)?;
    role.alert = Some(due);
    Some(due)
}

fn due_for_rotating(engine: &Engine, name: &RoleName, role: &RotatingRole) -> Option<Alert> {
    let (watch, now) = (role.watch()?, engine.now());
    let counting = role.definition.terms.counting();
    let keys = role.keys_in_budget();
    let living = of_keys(engine, name, &watch, keys, counting, now);
    watch.due(living, now)
}

fn due_for_dynamic(engine: &Engine, name: &RoleName, role: &DynamicRole) -> Option<Alert> {
    let (watch, now) = (role.watch()?, engine.now());
    let books = engine.books_if_open()?;
    let records = books.leases.uncounted(name, role.pool.as_ref());
    let counting = role.terms.counting();
    let living = of_leases(engine, name, &watch, records.iter(), counting, now);
    watch.due(living, now)
}

/// What these keys of a rotating role have spent in the window, according to the readings that count.
fn of_keys<'a>(
    engine: &Engine,
    name: &RoleName,
    watch: &Watch,
    keys: impl Iterator<Item = &'a KeyHash>,
    counting: Counting,
    now: Timestamp,
) -> Amount {
    let Some(from) = watch.counts_from(now) else {
        return Amount::ZERO;
    };
    let reports = keys.filter_map(|hash| engine.readings.of(name, hash));
    let reports = reports.filter(|report| report.at >= from);
    reports.map(|report| report.reading(counting).spent).sum()
}

/// The same for the keys of these leases.
fn of_leases<'a>(
    engine: &Engine,
    name: &RoleName,
    watch: &Watch,
    records: impl Iterator<Item = &'a Record>,
    counting: Counting,
    now: Timestamp,
) -> Amount {
    let Some(from) = watch.counts_from(now) else {
        return Amount::ZERO;
    };
    let spent = records.filter_map(|record| {
        let report = engine.readings.of(name, &record.key.key_hash)?;
        (report.at >= from).then(|| record.spent(&report, counting).0)
    });
    spent.sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::TestRunner;
    use serde_json::json;

    use super::*;
    use crate::engine::clock::SystemClock;
    use crate::engine::randomness::SystemRandomness;
    use crate::engine::role::rotating::sample::{policies, role};
    use crate::logical::{FixedSystemView, MemoryStorage, Mount, NoEvents};
    use crate::openrouter::SystemNetwork;

    fn engine() -> Engine {
        let mount = Mount {
            storage: Arc::new(MemoryStorage::default()),
            system: Arc::new(FixedSystemView::default()),
            events: Arc::new(NoEvents),
            backend_uuid: "test".to_owned(),
        };
        let randomness = Arc::new(SystemRandomness);
        Engine::new(
            mount,
            Arc::new(SystemClock),
            randomness,
            Arc::new(SystemNetwork),
        )
    }

    fn key(hash: &KeyHash) -> Key {
        serde_json::from_value(json!({"hash": hash, "usage": 1})).unwrap()
    }

    /// As in a listing, which may contain the key of a lease that ends in the meantime.
    #[tokio::test]
    async fn a_report_about_the_key_of_a_lease_that_has_ended_is_not_kept() {
        let engine = engine();
        let leases = engine.books().await.unwrap().leases;
        let record: Record = serde_json::from_value(json!({
            "nonce": "0".repeat(32),
            "role": "ci",
            "connection": "default",
            "key_hash": "0".repeat(64),
            "until": "2026-11-21T12:00:00Z",
        }))
        .unwrap();
        let begun = leases.begin(&*engine.storage, record.clone(), engine.now());
        begun.await.unwrap();
        let is_kept = || {
            note_leased(&engine, &leases, &record, &key(&record.key.key_hash));
            let report = engine.readings.of(&record.key.role, &record.key.key_hash);
            report.is_some()
        };
        assert!(is_kept());
        let lease = leases.lock(&record.key.nonce).await;
        lease.end(&*engine.storage).await.unwrap();
        assert!(!is_kept());
    }

    #[tokio::test]
    async fn a_report_about_a_key_that_its_role_no_longer_has_is_not_kept() {
        let engine = engine();
        let name = RoleName::new("app").unwrap();
        let policy = policies().new_tree(&mut TestRunner::deterministic());
        let role = role(policy.unwrap().current(), engine.now());
        let hash = role.current.hash.clone();
        let is_kept = || {
            note(&engine, &name, &key(&hash));
            engine.readings.of(&name, &hash).is_some()
        };
        assert!(!is_kept());
        let origin = engine.origin(&name, &role.life);
        let entered = Role::Rotating(Box::new(role));
        engine.register.enter(&name, origin, &entered);
        assert!(is_kept());
        engine.register.forget(&name);
        assert!(!is_kept());
    }
}
