//! Finding a key's owner from the key or its hash, over all connections.

use openrouter_simulator::Fault;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::with_keys;
use crate::harness::{ROTATE, World};

async fn looked_up(world: &World, hash: &str) -> serde_json::Map<String, Value> {
    world.told("lookup", json!({"key_hash": hash})).await
}

#[tokio::test]
async fn every_kind_of_key_is_traced_to_its_owner_with_what_to_do_about_it() {
    let (world, keys) = with_keys().await;
    for (kind, owner, state, command) in [
        (
            "current",
            "role",
            "current",
            "rotate-role/app rotation_grace_period=0",
        ),
        ("superseded", "role", "superseded", "force=true"),
        (
            "leased",
            "lease",
            "leased",
            "lease revoke -sync -prefix openrouter/creds/ci",
        ),
        (
            "stray",
            "stray",
            "active",
            "vault write -force openrouter/revoke-key/default/",
        ),
        ("foreign", "other_mount", "active", "force=true"),
        (
            "unmanaged",
            "unmanaged",
            "active",
            "openrouter/disable-key/default/",
        ),
    ] {
        let found = looked_up(&world, &keys[kind]).await;
        assert_eq!(
            (&found["owner"], &found["state"]),
            (&json!(owner), &json!(state)),
            "{kind}"
        );
        assert_eq!(found["connection"], "default");
        let commands = found["commands"].to_string();
        assert!(commands.contains(command), "{kind}: {commands}");
        assert!(!found["advice"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_key_is_looked_up_by_itself_and_nothing_of_it_leaves_but_its_hash() {
    let world = World::with_role().await;
    let key = world.secret("app").await;
    world.openrouter.requests().reset();
    let found = world
        .told("lookup", json!({"api_key": format!("{key}\n")}))
        .await;
    assert_eq!(
        (&found["role"], &found["key_version"]),
        (&json!("app"), &json!(1))
    );
    let requests = world.openrouter.requests().all();
    assert_eq!(requests.len(), 1);
    assert!(!format!("{requests:?}").contains(&key));
    let told = Value::from(found).to_string();
    assert!(!told.contains(&key), "{told}");
}

#[tokio::test]
async fn storage_answers_while_openrouter_is_away() {
    let (world, keys) = with_keys().await;
    let away = Fault::ResetBeforeEffect.on_anything().forever();
    world.openrouter.faults().add(away);
    for (kind, owner) in [("current", "role"), ("leased", "lease")] {
        let found = looked_up(&world, &keys[kind]).await;
        assert_eq!(
            (&found["owner"], &found["connection"]),
            (&json!(owner), &json!("default"))
        );
        assert_eq!(found["key"], Value::Null);
        assert!(
            found["not_asked"]["default"]
                .as_str()
                .unwrap()
                .contains("cannot be looked up")
        );
    }
    let unknown = looked_up(&world, &keys["unmanaged"]).await;
    assert!(!unknown.contains_key("owner"), "{unknown:?}");
    assert!(
        unknown["advice"]
            .as_str()
            .unwrap()
            .contains("that could be asked")
    );
}

#[tokio::test]
async fn every_connection_is_asked_and_one_that_fails_hides_no_other() {
    let world = World::connected().await;
    let other = world.other_account("second").await;
    let hash = other
        .create_key(openrouter_simulator::NewKey::named("theirs"))
        .hash;
    let gone = world.openrouter.account().add_management_key();
    let third = json!({"management_key": gone, "api_url": world.gate_url()});
    world.write("config/third", third).await.unwrap();
    world
        .openrouter
        .account()
        .revoke_management_key(&gone)
        .unwrap();
    let found = looked_up(&world, &hash).await;
    assert_eq!(
        (&found["owner"], &found["connection"]),
        (&json!("unmanaged"), &json!("second"))
    );
    let not_asked = found["not_asked"].as_object().unwrap();
    assert_eq!(not_asked.keys().collect::<Vec<_>>(), ["third"]);
}

#[tokio::test]
async fn a_management_key_is_told_by_the_connection_that_has_it() {
    let world = World::connected().await;
    let key = world.openrouter.management_key().to_owned();
    let key = secrecy::SecretString::from(key);
    let found = world
        .told("lookup", json!({"api_key": key.expose_secret()}))
        .await;
    assert_eq!(found["management_key_of"], "default");
    assert!(
        found["commands"]
            .to_string()
            .contains("openrouter/config/default")
    );
}

#[tokio::test]
async fn a_key_that_nobody_knows_is_said_to_be_that() {
    let world = World::connected().await;
    let found = looked_up(&world, &"0".repeat(64)).await;
    assert_eq!(
        (&found["connection"], &found["commands"]),
        (&Value::Null, &json!([]))
    );
    assert!(
        found["advice"]
            .as_str()
            .unwrap()
            .contains("No connection sees this key")
    );
}

#[tokio::test]
async fn bad_input_is_refused_with_the_field() {
    let world = World::connected().await;
    for (body, reason) in [
        (json!({}), "give either api_key"),
        (
            json!({"api_key": "a", "key_hash": "b"}),
            "give either api_key",
        ),
        (json!({"key_hash": "abc"}), "key_hash must be"),
        (json!({"hash": "abc"}), "unknown field"),
    ] {
        let refusal = world.write("lookup", body.clone()).await.unwrap_err();
        assert!(refusal.to_string().contains(reason), "{body}: {refusal}");
    }
    assert!(world.openrouter.requests().to("GET", "/keys/*").is_empty());
}

#[tokio::test]
async fn what_lookup_says_to_do_can_be_done_where_two_connections_see_the_key() {
    let world = World::with_role().await;
    let another = json!({
        "management_key": world.openrouter.management_key(), "api_url": world.gate_url(),
    });
    world.write("config/another", another).await.unwrap();
    world.write(ROTATE, json!({})).await.unwrap();
    let hash = world.superseded().await;
    let found = world.told("lookup", json!({"key_hash": hash})).await;
    let command = found["commands"][0].as_str().unwrap();
    let path = command
        .split_whitespace()
        .find_map(|word| word.strip_prefix("openrouter/"));
    let done = world.write(path.unwrap(), json!({"force": true})).await;
    assert!(done.is_ok(), "{command}: {done:?}");
}

#[tokio::test]
async fn a_held_key_that_somebody_enabled_at_openrouter_is_said_to_work() {
    let world = World::with_role().await;
    let hold = json!({"revocation_hold": 7_000});
    world.write("roles/app", hold).await.unwrap();
    let hash = world.current().await;
    let at_once = json!({"rotation_grace_period": 0});
    world.write(ROTATE, at_once).await.unwrap();
    assert_eq!(looked_up(&world, &hash).await["state"], "held");
    let account = world.openrouter.account();
    account.set_disabled(&hash, false).unwrap();
    let found = looked_up(&world, &hash).await;
    assert_eq!(
        (&found["owner"], &found["state"]),
        (&json!("role"), &json!("active"))
    );
}
