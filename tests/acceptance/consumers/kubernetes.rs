//! What the Kubernetes clients read from a response: Vault Secrets Operator (VSO), External Secrets Operator
//! (ESO) and the Agent injector. They are not run here. The test checks what they rely on, in the way in
//! which they parse it. The manifests are in `samples/kubernetes/`.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::application::{AT_WORK, LONG_GRACE, Tally, after};
use super::operator::{Operator, VSO};
use crate::harness::{Mount, Reply, SOON, eventually, reader, say};

#[tokio::test]
async fn both_paths_describe_a_rotation_as_the_operators_parse_it() {
    let mount = Mount::new().await;
    let monthly = json!({"rotation_period": "30d"});
    let nightly = json!({"rotation_schedule": "0 3 * * *", "rotation_window": "2h"});
    for (role, fields) in [("monthly", monthly), ("nightly", nightly)] {
        mount.role(role, fields).await;
        for path in ["creds", "static-creds"] {
            let reply = mount.read(&format!("{path}/{role}")).await.ok();
            // VSO treats a role as rotating if these two fields exist, a timestamp and a JSON integer.
            let rotated: Timestamp = reply.text("last_vault_rotation").parse().unwrap();
            assert!(rotated.as_second() > 0, "{reply}");
            assert!(reply.integer("rotation_period") >= 1, "{reply}");
            // VSO waits for the next rotation if this is 2 or less, and rejects other types. In Agent,
            // another type ends the runner.
            assert!(reply.integer("ttl") > 2, "{reply}");
            // With a schedule, VSO would expect a ttl that counts down to the rotation.
            assert!(!reply.fields().contains(&"rotation_schedule"), "{reply}");
        }
    }
}

#[tokio::test]
async fn a_static_reply_has_neither_lease_nor_wrapping_nor_token() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let reply = mount.read("static-creds/app").await.ok();
    let json = reply.json();
    assert_eq!(
        (&json["lease_id"], &json["lease_duration"]),
        (&json!(""), &json!(0))
    );
    assert_eq!(json["renewable"], false);
    assert_eq!(
        (&json["wrap_info"], &json["auth"]),
        (&Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn every_value_becomes_an_entry_of_a_kubernetes_secret() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let reply = mount.read("static-creds/app").await.ok();
    for (name, value) in reply.data().as_object().unwrap() {
        // A name may have letters, digits, `-`, `_` and `.`. A value that is not a scalar becomes JSON.
        assert!(value.is_string() || value.is_i64(), "{name}: {value}");
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        assert!(name.bytes().all(fits), "{name}");
        // ESO takes the content of a field with this name for the whole response; VSO reserves the name.
        assert!(!["data", "_raw"].contains(&name.as_str()), "{name}");
    }
}

#[tokio::test]
async fn an_operator_sees_no_change_until_the_key_changes() {
    let mount = Mount::new().await;
    mount.role("app", json!({"ttl": 60})).await;
    let first = compared(&mount.read("static-creds/app").await.ok());
    for path in ["static-creds/app", "creds/app", "static-creds/app"] {
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert_eq!(compared(&mount.read(path).await.ok()), first);
    }
    mount.role("app", json!({"limit": 3, "ttl": 30})).await;
    assert_eq!(compared(&mount.read("static-creds/app").await.ok()), first);
    mount.write("rotate-role/app", json!({})).await.ok();
    let second = compared(&mount.read("static-creds/app").await.ok());
    for changed in ["api_key", "key_hash", "key_name", "key_version"] {
        assert_ne!(second[changed], first[changed], "{changed}");
    }
}

#[tokio::test]
async fn an_operator_that_reads_when_ttl_is_over_never_holds_a_dead_key() {
    let mount = Mount::new().await;
    let fields = json!({"rotation_period": 7, "rotation_grace_period": LONG_GRACE, "ttl": 4});
    mount.role("app", fields).await;
    let mut operator = Operator::new(&mount, VSO);
    let current = async || operator.key().await;
    let used = Tally::until_keys_are_dead(&mount, 2, current).await;
    used.is_flawless();
    assert_eq!(operator.failures, 0);
}

#[tokio::test]
async fn an_operator_that_reads_when_ttl_is_over_has_the_next_key_by_then_after_an_emergency() {
    let mount = Mount::new().await;
    let ttl = 4;
    mount.role("app", json!({"ttl": ttl})).await;
    let mut operator = Operator::new(&mount, VSO);
    let first = operator.key().await.expect("a key");
    mount
        .write("rotate-role/app", json!({"rotation_grace_period": 0}))
        .await
        .ok();
    let current = async || operator.key().await;
    let used = Tally::of(&mount, current, |used| used.served >= AT_WORK).await;
    let second = mount.key("app").await;
    assert_eq!(used.keys, [first, second]);
    assert_eq!(operator.failures, 0);
    say(&format!(
        "Vault Secrets Operator, emulated: dead for {:.1} s in an emergency rotation, with a ttl of {ttl} s",
        used.longest_dead.as_secs_f64()
    ));
}

#[tokio::test]
async fn a_lease_that_its_reader_forgets_runs_out_by_itself_and_spares_the_key() {
    let mount = Mount::new().await;
    mount.role("app", json!({"ttl": 2})).await;
    let begun = Instant::now();
    let reply = mount.read("creds/app").await.ok();
    let key = reply.text("api_key");
    // It is below the path that is listed, as long as it exists.
    assert!(reply.lease_id().starts_with(&mount.at("creds/app/")));
    let leases = format!("sys/leases/lookup/{}", mount.at("creds/app"));
    let none = async || {
        let left = mount.client().list(&leases).await;
        left.keys().is_empty().then_some(())
    };
    eventually("the lease runs out", SOON, none).await;
    after(begun, Duration::from_secs(2)).await;
    assert!(mount.openrouter.accepts(&key).await);
    assert_eq!(mount.key("app").await, key);
}

#[tokio::test]
async fn a_token_that_ends_takes_its_leases_and_not_the_key() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let client = reader(&mount).await;
    let key = client
        .read(&mount.at("creds/app"))
        .await
        .ok()
        .text("api_key");
    let leases = format!("sys/leases/lookup/{}", mount.at("creds/app"));
    assert_eq!(mount.client().list(&leases).await.keys().len(), 1);
    client.write("auth/token/revoke-self", json!({})).await.ok();
    let gone = async || {
        let left = mount.client().list(&leases).await;
        left.keys().is_empty().then_some(())
    };
    eventually("the token's leases are gone", SOON, gone).await;
    assert!(mount.openrouter.accepts(&key).await);
    assert_eq!(mount.key("app").await, key);
}

/// What VSO compares to decide whether to restart a workload: the whole response except these fields.
fn compared(reply: &Reply) -> Value {
    let mut data = reply.data().clone();
    let fields = data.as_object_mut().unwrap();
    for ignored in [
        "ttl",
        "rotation_period",
        "rotation_schedule",
        "last_vault_rotation",
    ] {
        fields.remove(ignored);
    }
    data
}
