//! The same clients with a dynamic role: each lease has a separate key, which lives as long as the client
//! renews the lease, and no longer than `max_ttl`.
//!
//! The role has the name that the samples use for a rotating role, so that they can be used unchanged.

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

/// The lease in the tests of clients that replace a key, in seconds: `ttl` and `max_ttl`.
///
/// Agent and Proxy renew at once, and then each time when between 70 and 73 percent of the lease have passed.
/// They read another key as soon as a renewal returns less than 40 to 80 percent. With these times that is
/// the second renewal, after about 29 seconds: it returns the remaining 15 seconds. This leaves more than ten
/// seconds for the renewal, and more than ten to hand over the next key, for delays on a busy machine.
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

/// Asserts that the mount's keys are those that were used, and perhaps one that the client has just got, and
/// that each dead key was renewed: it lived longer than one lease. How much longer depends on how soon the
/// client and the server act.
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

/// What the server knows about a lease of the mount's role `app`, if there is one.
async fn look_up(mount: &Mount, lease: &str) -> Option<Reply> {
    let lease = json!({"lease_id": lease});
    let reply = mount.client().write("sys/leases/lookup", lease).await;
    (reply.status() == 200).then_some(reply)
}
