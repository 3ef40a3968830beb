//! External Secrets Operator through scheduled rotations and an emergency, and with a dynamic role.

use std::cell::{Cell, RefCell};

use serde_json::json;

use super::site::{Intervals, Site};
use crate::consumers::application::Tally;
use crate::harness::{SOON, eventually, say};

/// In seconds, with the same proportions as in the samples: the operator refreshes before `ttl` has passed.
const INTERVALS: Intervals = Intervals {
    rotating: "8s",
    dynamic: "15s",
};

#[tokio::test]
async fn external_secrets_operator_holds_no_dead_key_in_rotations_and_with_a_dynamic_role() {
    let Some(site) = Site::new().await else {
        return;
    };
    let times = json!({"rotation_period": 15, "rotation_grace_period": 25, "ttl": 10});
    site.mount.role("app", times).await;
    // Two keys are alive at a time, and the operator may read twice at a refresh.
    let times = json!({"credential_type": "dynamic", "ttl": 25, "max_leases": 4});
    site.mount.role("jobs", times).await;
    site.deploy(&INTERVALS).await;
    let api = site.cluster.api();
    let done = |used: &Tally| used.keys.len() > 3 && dead(&site, used) >= 3;
    let (rotating, dynamic) = tokio::join!(
        Tally::of(&site.mount, async || api.key_in("openrouter").await, done),
        Tally::of(
            &site.mount,
            async || api.key_in("openrouter-jobs").await,
            done
        ),
    );
    rotating.is_flawless();
    dynamic.is_flawless();
    let log = site.log();
    assert!(!log.contains("max_leases"), "{log}");
    say(&format!(
        "External Secrets Operator: {} keys in {} requests, none dead; with a dynamic role {} keys \
         used of {} read, in {} requests, none dead",
        rotating.keys.len(),
        rotating.served,
        dynamic.keys.len(),
        keys_named(&site, "jobs"),
        dynamic.served,
    ));
}

#[tokio::test]
async fn external_secrets_operator_has_the_next_key_soon_after_an_emergency() {
    let Some(site) = Site::new().await else {
        return;
    };
    site.mount.role("app", json!({"ttl": 10})).await;
    site.mount
        .role("jobs", json!({"credential_type": "dynamic"}))
        .await;
    site.deploy(&INTERVALS).await;
    let api = site.cluster.api();
    let (first, next) = (Cell::new(false), RefCell::new(None));
    let emergency = async {
        let at_work = async || first.get().then_some(());
        eventually("the key is in the Secret", SOON, at_work).await;
        let at_once = json!({"rotation_grace_period": 0});
        site.mount.write("rotate-role/app", at_once).await.ok();
        let current = site.mount.key("app").await;
        next.replace(Some(current));
    };
    let done = |used: &Tally| {
        first.set(used.served > 0);
        let next = next.borrow();
        next.is_some() && used.keys.last() == next.as_ref()
    };
    let used = Tally::of(&site.mount, async || api.key_in("openrouter").await, done);
    let (used, ()) = tokio::join!(used, emergency);
    let current = api
        .key_in("openrouter")
        .await
        .expect("the Secret has a key");
    assert!(site.mount.openrouter.accepts(&current).await);
    say(&format!(
        "External Secrets Operator: dead for {:.1} s in an emergency rotation, with a refresh every {}",
        used.longest_dead.as_secs_f64(),
        INTERVALS.rotating
    ));
}

/// How many of the used keys are revoked.
fn dead(site: &Site, used: &Tally) -> usize {
    let keys = site.mount.openrouter.account().all_keys();
    let dead = keys.iter().filter(|key| key.deleted_at.is_some());
    dead.filter(|key| used.keys.iter().any(|used| used == key.secret()))
        .count()
}

/// How many keys a role has had.
fn keys_named(site: &Site, role: &str) -> usize {
    let keys = site.mount.openrouter.account().all_keys();
    keys.iter().filter(|key| key.name.starts_with(role)).count()
}
