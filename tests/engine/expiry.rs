//! A current key that expires while nothing replaces it: for how long it is handed out, and who is told.

use serde_json::json;

use crate::custody::metric;
use crate::harness::{ROLE, World};

/// A role that is rotated only manually, and the seconds until its key expires. Nothing is compared.
async fn expiring() -> (World, i64) {
    let world = World::connected().await;
    let never = json!({"reconcile_interval": 0});
    world.write("config", never).await.unwrap();
    let body = json!({
        "disable_automated_rotation": true, "key_max_lifetime": 9_000, "rotation_grace_period": 600,
        "ttl": 300,
    });
    world.write(ROLE, body).await.unwrap();
    world.quiet().await;
    (world, 9_000)
}

#[tokio::test]
async fn a_key_is_handed_out_for_the_roles_ttl_and_in_the_end_for_as_long_as_it_works() {
    let (world, expiry) = expiring().await;
    let begun = world.time.now();
    for (left, ttl) in [(9_000, 300), (301, 300), (300, 300), (299, 299), (1, 1)] {
        let seconds = expiry - left - world.time.now().duration_since(begun).as_secs();
        world.pass(seconds).await;
        for path in ["creds/app", "static-creds/app"] {
            let answer = world.read(path).await.unwrap().unwrap();
            assert_eq!(answer.data["ttl"], ttl, "{path}: {left} seconds before");
            let lease = answer.secret.map(|secret| secret.lease.ttl.as_secs());
            assert_eq!(lease.is_some(), path == "creds/app");
            assert_eq!(lease.unwrap_or(ttl), ttl, "{left} seconds before");
            let shorter = format!("the lease is {ttl} seconds instead of 300");
            let is_said = answer.warnings.iter().any(|said| said.contains(&shorter));
            assert_eq!(is_said, ttl < 300, "{path}: {:?}", answer.warnings);
            assert_eq!(answer.warnings.len(), usize::from(is_said));
        }
    }
    world.pass(1).await;
    let refusal = world.key("app").await.unwrap_err();
    assert!(refusal.contains("expired at"), "{refusal}");
    assert_eq!(world.broken_promises(), [""; 0]);
}

/// Nobody has to read the role for that.
#[tokio::test]
async fn the_status_of_the_mount_names_a_role_from_the_second_in_which_its_key_expires() {
    let (world, expiry) = expiring().await;
    let named = async || {
        let status = world.read("status").await.unwrap().unwrap().data;
        status["attention"]["roles"]["app"].to_string()
    };
    world.pass_without_calls(expiry - 1).await;
    assert_eq!(named().await, "null");
    world.pass_without_calls(1).await;
    let reason = named().await;
    assert!(reason.contains("the current key expired at"), "{reason}");
    let failed = metric(&world, "vault_openrouter_roles_needing_attention").await;
    assert_eq!(failed, Some(1.0));
}
