//! The same clients with a dynamic role: each lease has a key of its own, which lives as long as the
//! client renews it, and no longer than `max_ttl`.
//!
//! The role has the name that the samples give a rotating one, so that they fit as they are.

mod agent;
mod command_line;
mod operators;
mod proxy;

use serde_json::{Value, json};

use crate::harness::{Mount, Reply, SOON, eventually};

/// A mount with the dynamic role `app`.
async fn dynamic(mut fields: Value) -> Mount {
    let mount = Mount::new().await;
    fields["credential_type"] = "dynamic".into();
    mount.role("app", fields).await;
    mount
}

/// The lease of the tests that watch a client replace a key, in seconds: `ttl` and `max_ttl`.
///
/// Agent and Proxy renew at once, and then each time when between 70 and 73 hundredths of the lease are
/// over. They take another key as soon as a renewal gives them less than 40 to 80 hundredths. With these
/// times that is the second renewal, after some 29 seconds: it gives them the 15 that are left. So there
/// are more than ten seconds for the renewal, and more than ten to hand the next key over, for whatever
/// is late on a busy machine.
const LEASE: [i64; 2] = [40, 44];

/// The same as fields of a role.
fn replaced_with_time_left() -> Value {
    let [ttl, max_ttl] = LEASE;
    json!({"ttl": ttl, "max_ttl": max_ttl})
}

/// How many keys were ordered.
fn ordered(mount: &Mount) -> usize {
    mount.openrouter.requests().to("POST", "/keys").len()
}

/// Asserts that the mount's keys are those that were used, and perhaps one that the client has just
/// got, and that each of the dead ones was renewed: it lived longer than one lease. How much longer
/// depends on how soon the client and the server act.
#[track_caller]
fn each_key_was_renewed_to_its_end(mount: &Mount, used: &[String]) {
    let made = mount.openrouter.account().all_keys();
    let secrets: Vec<&str> = made.iter().map(|key| key.secret()).collect();
    assert!(secrets.starts_with(&used.iter().map(String::as_str).collect::<Vec<_>>()));
    assert!(secrets.len() <= used.len() + 1, "{} keys", secrets.len());
    let [ttl, _] = LEASE;
    for key in &made {
        let Some(deleted) = key.deleted_at else {
            continue;
        };
        let life = deleted.duration_since(key.created_at).as_secs();
        assert!(life > ttl, "{life} seconds");
    }
}

/// Waits until no key is left.
async fn no_key_is_left(mount: &Mount) {
    eventually("no key is left", SOON, async || {
        mount.openrouter.hashes().is_empty().then_some(())
    })
    .await;
}

/// What the server knows of a lease of the mount's role `app`, if it is there.
async fn look_up(mount: &Mount, lease: &str) -> Option<Reply> {
    let lease = json!({"lease_id": lease});
    let reply = mount.client().write("sys/leases/lookup", lease).await;
    (reply.status() == 200).then_some(reply)
}
