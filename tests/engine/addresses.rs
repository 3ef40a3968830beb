//! A caller who may write a connection can name any address. No stored secret is sent there, neither the
//! management key nor a role's API key, whatever else the write contains.

// All of this is test code; declaring it as such makes clippy allow what it allows in tests.
#[cfg(test)]
mod combinations;
#[cfg(test)]
mod thief;

use openrouter_simulator::Fault;
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::Storage;

use crate::harness::{CI, ROLE, ROTATE, World};
use thief::{Certificate, Thief};

/// What else a write may contain, to get around a refusal.
fn around() -> [Value; 4] {
    [
        json!({}),
        json!({"force": true}),
        json!({"verify_connection": false}),
        json!({"verify_connection": false, "force": true}),
    ]
}

fn both(one: &Value, other: &Value) -> Value {
    let mut both = one.as_object().unwrap().clone();
    both.extend(other.as_object().unwrap().clone());
    both.into()
}

#[tokio::test]
async fn a_change_of_address_without_a_management_key_is_refused_and_sends_nothing() {
    let world = World::with_role().await;
    let thief = Thief::listening().await;
    let before = world.storage.get("config/default").await.unwrap();
    let mut changes = thief.addresses().to_vec();
    let roots = certificate();
    changes.push(json!({ "ca_certificate": roots }));
    changes.push(json!({"ca_certificate": roots, "proxy_url": thief.url}));
    for change in changes {
        for more in around() {
            let body = both(&change, &more);
            let refusal = world.write("config", body.clone()).await.unwrap_err();
            let refusal = refusal.to_string();
            assert!(refusal.contains("management_key is required"), "{refusal}");
            let stored = world.storage.get("config/default").await.unwrap();
            assert_eq!(stored, before, "{body}");
        }
    }
    assert_eq!(thief.heard(), "");
    assert_eq!(world.version().await, 1);
}

#[tokio::test]
async fn a_key_of_ones_own_with_an_address_of_ones_own_brings_no_roles_secret_there() {
    for number in 0..3 {
        for more in around() {
            let world = World::with_role().await;
            let secrets = [
                world.openrouter.management_key().to_owned(),
                world.secret("app").await,
            ];
            let thief = Thief::listening().await;
            let own = json!({"management_key": "sk-or-v1-the-thiefs-own"});
            let change = both(&thief.addresses()[number], &own);
            let body = both(&change, &more);
            // Whether it is rejected depends on the foreign server's answer.
            let written = world.write("config", body.clone()).await;
            world.restart().await;
            world.pass(4_000).await;
            let _ = world.write(ROTATE, json!({})).await;
            world.pass(4_000).await;
            let heard = thief.heard();
            if written.is_ok() {
                assert!(heard.contains("GET "), "it is asked: {body}");
            }
            for secret in &secrets {
                assert!(!heard.contains(secret), "{body}: {heard}");
            }
        }
    }
}

/// The rule costs nothing for those who know the stored key.
#[tokio::test]
async fn the_stored_management_key_may_move_and_a_key_that_is_gone_is_noticed_there() {
    let world = World::with_role().await;
    let key = world.openrouter.management_key();
    let body = json!({"management_key": key, "ca_certificate": certificate()});
    world.write("config", body).await.unwrap();
    let role = world.role("app").await.unwrap();
    let hash = role["current_key"]["hash"].as_str().unwrap();
    world.openrouter.account().delete_key(hash).unwrap();
    world.restart().await;
    world.quiet().await;
    assert_eq!(world.version().await, 2);
}

/// If a key must not be sent to the new address, another key that is visible there is the second sign.
#[tokio::test]
async fn a_key_that_is_gone_is_noticed_at_a_new_address_by_another_that_is_seen() {
    for another in ["roles/other", CI, "none"] {
        let world = World::with_role().await;
        match another {
            CI => {
                let ci = json!({"credential_type": "dynamic", "ttl": 3_000});
                world.write(CI, ci).await.unwrap();
                world.lease().await.unwrap();
            }
            "none" => {}
            path => drop(world.write(path, json!({})).await.unwrap()),
        }
        // By a caller without the stored key, to an address of the same account.
        let fresh = world.openrouter.account().add_management_key();
        let body = json!({"management_key": fresh, "ca_certificate": certificate()});
        world.write("config", body).await.unwrap();
        let role = world.role("app").await.unwrap();
        let hash = role["current_key"]["hash"].as_str().unwrap();
        world.openrouter.account().delete_key(hash).unwrap();
        let refused = Fault::status(402).on("POST", "/keys").forever();
        world.openrouter.faults().add(refused);
        world.openrouter.requests().reset();
        world.restart().await;
        world.quiet().await;
        let is_noticed = world.key("app").await.is_err();
        assert_eq!(is_noticed, another != "none", "{another}");
        let own = world.openrouter.requests().to("GET", "/key");
        assert_eq!(own, [], "no key is sent to where it was not made");
    }
}

/// At the new address there is no sign of it either way, so what was found before stands.
#[tokio::test]
async fn a_key_that_was_found_to_be_gone_is_not_handed_out_again_at_a_new_address() {
    let world = World::connected().await;
    let body = json!({"disable_automated_rotation": true});
    world.write(ROLE, body).await.unwrap();
    let role = world.role("app").await.unwrap();
    let hash = role["current_key"]["hash"].as_str().unwrap();
    world.openrouter.account().delete_key(hash).unwrap();
    world.restart().await;
    world.quiet().await;
    world.key("app").await.unwrap_err();
    let fresh = world.openrouter.account().add_management_key();
    let body = json!({"management_key": fresh, "ca_certificate": certificate()});
    world.write("config", body).await.unwrap();
    world.pass(7_200).await;
    let refusal = world.key("app").await.unwrap_err();
    assert!(refusal.contains("gone at OpenRouter"), "{refusal}");
}

/// The account does not matter: nothing is sent.
fn certificate() -> String {
    Certificate::new().pem
}
