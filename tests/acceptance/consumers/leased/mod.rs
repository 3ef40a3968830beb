//! The same clients with a dynamic role: each lease has a key of its own, which lives as long as the
//! client renews it, and no longer than `max_ttl`.
//!
//! The role has the name that the samples give a rotating one, so that they fit as they are.

mod agent;
mod command_line;
mod operators;
mod proxy;

use serde_json::{Value, json};

use crate::harness::Mount;

/// A mount with the dynamic role `app`.
async fn dynamic(mut fields: Value) -> Mount {
    let mount = Mount::new().await;
    fields["credential_type"] = "dynamic".into();
    mount.role("app", fields).await;
    mount
}

/// The lease of the tests that watch a client of Vault's own replace a key.
///
/// Agent and Proxy renew at once, and then each time when between 70 and 73 hundredths of the lease are
/// over. They take another key as soon as a renewal gives them less than 40 to 80 hundredths. With these
/// times the third renewal, 21 to 22 seconds after the read, is the first to give less than the whole
/// lease: the 5 or 6 seconds that are left. So many the client has to hand the next key over, however
/// busy the machine is.
fn replaced_with_five_seconds_left() -> Value {
    json!({"ttl": 15, "max_ttl": 27})
}

/// How many keys were ordered.
fn ordered(mount: &Mount) -> usize {
    mount.openrouter.requests().to("POST", "/keys").len()
}

/// Asserts that the mount's keys are those that were used, and that each of the dead ones lived for
/// longer than one lease, so was renewed, and not for much longer than `max_ttl`.
#[track_caller]
fn each_key_was_renewed_to_its_end(mount: &Mount, used: &[String], [ttl, max_ttl]: [i64; 2]) {
    let made = mount.openrouter.account().all_keys();
    let secrets: Vec<&str> = made.iter().map(|key| key.secret()).collect();
    assert_eq!(secrets, used);
    assert_eq!(ordered(mount), used.len());
    for key in &made {
        let Some(deleted) = key.deleted_at else {
            continue;
        };
        let life = deleted.duration_since(key.created_at).as_secs();
        // The server may be late to revoke.
        assert!((ttl + 1..=max_ttl + 10).contains(&life), "{life} seconds");
    }
}
