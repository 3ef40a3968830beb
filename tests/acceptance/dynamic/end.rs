//! How the key of a lease ends: with the lease, and not before.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::timeout;

use super::{dynamic, no_key_is_left, renew, revoke, token};
use crate::harness::{Mount, SOON, Vault, eventually};

#[tokio::test]
async fn a_lease_that_runs_out_takes_its_key_with_it() {
    let mount = dynamic(json!({"ttl": 2})).await;
    mount.read("creds/ci").await.ok();
    no_key_is_left(&mount).await;
}

#[tokio::test]
async fn a_token_that_is_revoked_takes_its_keys_with_it() {
    let mount = dynamic(json!({})).await;
    let token = token(&mount, json!({})).await;
    for _ in 0..3 {
        token.read(&mount.at("creds/ci")).await.ok();
    }
    mount.read("creds/ci").await.ok();
    let body = json!({"token": token.token()});
    mount.client().write("auth/token/revoke", body).await.ok();
    eventually("the root token's key alone is left", SOON, async || {
        (mount.openrouter.hashes().len() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn revoking_by_prefix_and_disabling_the_mount_leave_no_key() {
    let mount = dynamic(json!({})).await;
    for _ in 0..3 {
        mount.read("creds/ci").await.ok();
    }
    let prefix = format!("sys/leases/revoke-prefix/{}", mount.at("creds/ci"));
    let body = json!({"sync": true});
    mount.client().write(&prefix, body).await.ok();
    assert_eq!(mount.openrouter.hashes(), [""; 0]);
    for _ in 0..3 {
        mount.read("creds/ci").await.ok();
    }
    mount.disable().await.ok();
    assert_eq!(mount.openrouter.hashes(), [""; 0]);
}

#[tokio::test]
async fn a_lease_is_renewed_by_ttl_or_by_what_is_asked_up_to_max_ttl() {
    let mount = dynamic(json!({"ttl": 600, "max_ttl": 1_000})).await;
    let begun = Instant::now();
    let reply = mount.read("creds/ci").await.ok();
    let by_ttl = renew(mount.client(), &reply, json!({})).await.ok();
    assert_eq!(by_ttl.lease_duration(), 600);
    let asked = renew(mount.client(), &reply, json!({"increment": 700}))
        .await
        .ok();
    assert_eq!(asked.lease_duration(), 700);
    let too_long = renew(mount.client(), &reply, json!({"increment": 5_000}))
        .await
        .ok();
    // The whole remainder of `max_ttl`, to the second.
    let over = i64::try_from(begun.elapsed().as_secs()).unwrap() + 2;
    let (duration, longest) = (too_long.lease_duration(), 1_000 - over..=1_000);
    assert!(longest.contains(&duration), "{duration}");
    too_long.warns(&["max_ttl"]);
    assert!(mount.openrouter.accepts(&reply.text("api_key")).await);
}

#[tokio::test]
async fn no_renewal_reaches_past_the_keys_own_expiry() {
    let mount = dynamic(json!({"ttl": 60, "max_ttl": 120})).await;
    let reply = mount.read("creds/ci").await.ok();
    mount.role("ci", json!({"max_ttl": "10h"})).await.ok();
    let renewal = renew(mount.client(), &reply, json!({"increment": "5h"}))
        .await
        .ok();
    assert!(
        renewal.lease_duration() <= 121,
        "{}",
        renewal.lease_duration()
    );
}

#[tokio::test]
async fn leases_outlive_their_role_and_the_connections_key() {
    let mount = dynamic(json!({})).await;
    let reply = mount.read("creds/ci").await.ok();
    let management_key = mount.openrouter.account().add_management_key();
    let connection = json!({"management_key": management_key});
    mount.write("config", connection).await.ok();
    mount
        .delete("roles/ci")
        .await
        .ok()
        .warns(&["1 leases", "can be revoked"]);
    assert!(mount.openrouter.accepts(&reply.text("api_key")).await);
    let renewal = renew(mount.client(), &reply, json!({})).await;
    renewal.refused(400, &["role \"ci\" is gone", "err: "]);
    let needed = mount.delete("config").await;
    needed.refused(400, &["1 keys under leases", "forget-connection/default"]);
    revoke(mount.client(), &reply).await.ok();
    assert_eq!(mount.openrouter.hashes(), [""; 0]);
    mount.delete("config").await.ok();
}

#[tokio::test]
async fn a_new_management_key_must_see_the_leased_keys() {
    let mount = dynamic(json!({})).await;
    mount.read("creds/ci").await.ok();
    let stranger = mount.openrouter.add_account().add_management_key();
    let connection = json!({"management_key": stranger});
    let refused = mount.write("config", connection).await;
    refused.refused(400, &["does not see 1 of the keys"]);
}

#[tokio::test]
async fn a_revocation_that_fails_is_an_error_and_is_tried_again() {
    let mount = dynamic(json!({})).await;
    let reply = mount.read("creds/ci").await.ok();
    mount.openrouter.fail();
    let failed = revoke(mount.client(), &reply).await;
    assert!(
        failed.errors().contains("could not be revoked"),
        "{}",
        failed.errors()
    );
    assert_eq!(mount.openrouter.hashes().len(), 1);
    mount.openrouter.recover();
    revoke(mount.client(), &reply).await.ok();
    assert_eq!(mount.openrouter.hashes(), [""; 0]);
}

#[tokio::test]
async fn a_key_that_is_gone_already_is_no_obstacle() {
    let mount = dynamic(json!({})).await;
    let reply = mount.read("creds/ci").await.ok();
    let account = mount.openrouter.account();
    account.delete_key(&reply.text("key_hash")).unwrap();
    revoke(mount.client(), &reply).await.ok();
}

#[tokio::test]
#[ignore = "takes as long as Vault tries by itself: some ten minutes"]
async fn an_irrevocable_lease_is_cleared_once_openrouter_is_back() {
    let vault = Vault::dev().await;
    let mount = Mount::on(vault.client()).await;
    let role = json!({"credential_type": "dynamic", "ttl": 2});
    mount.role("ci", role).await.ok();
    let reply = mount.read("creds/ci").await.ok();
    mount.openrouter.fail();
    let irrevocable = "sys/leases?type=irrevocable";
    eventually("Vault gives up", Duration::from_secs(1_200), async || {
        let leases = mount.client().read(irrevocable).await;
        leases
            .json()
            .to_string()
            .contains(&reply.lease_id())
            .then_some(())
    })
    .await;
    assert_eq!(mount.openrouter.hashes(), [reply.text("key_hash")]);
    mount.openrouter.recover();
    revoke(mount.client(), &reply).await.ok();
    assert_eq!(mount.openrouter.hashes(), [""; 0]);
    let left = mount.client().read(irrevocable).await;
    assert!(
        !left.json().to_string().contains(&reply.lease_id()),
        "{:?}",
        left.json()
    );
}

/// The server has the lease, whether or not it hears of the renewal: a caller that disconnects does not revoke it.
#[tokio::test]
async fn a_renewal_whose_caller_disconnects_leaves_the_key_alive() {
    let mount = dynamic(json!({})).await;
    let lease = mount.read("creds/ci").await.ok();
    let body = json!({"lease_id": lease.lease_id()});
    // At every point of a renewal, which takes a few milliseconds.
    for microseconds in (0..10_000).step_by(100) {
        let renewal = mount.client().try_write("sys/leases/renew", body.clone());
        let _ = timeout(Duration::from_micros(microseconds), renewal).await;
    }
    renew(mount.client(), &lease, json!({})).await.ok();
    assert!(mount.openrouter.accepts(&lease.text("api_key")).await);
}
