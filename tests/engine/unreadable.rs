//! A role's entry that cannot be read affects only that role. The keys that it mentions are kept alive.

use openrouter_simulator::NewKey;
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::{Entry, Storage};

use crate::harness::World;

/// An entry of a newer build that mentions these.
async fn put_newer(world: &World, hash: &str, connection: &str) {
    let key = json!({"hash": hash, "connection": connection});
    let role = json!({"version": 99, "entry": {"rotating": {"keys": [{ "all": key }]}}});
    put(world, &role.to_string()).await;
}

async fn put(world: &World, value: &str) {
    let (key, value) = ("roles/bad".to_owned(), value.as_bytes().to_vec());
    world.storage.put(Entry { key, value }).await.unwrap();
}

async fn connect(world: &World, name: &str) {
    let key = json!({
        "management_key": world.openrouter.management_key(),
        "api_url": world.gate_url(),
    });
    world.write(&format!("config/{name}"), key).await.unwrap();
}

fn warnings(answer: Option<vault_plugin_secrets_openrouter::logical::Response>) -> String {
    answer.expect("there are warnings").warnings.join("; ")
}

#[tokio::test]
async fn a_management_key_is_replaced_and_an_unused_connection_deleted_with_a_warning() {
    for broken in ["{", "[]", r#"{"version":2,"entry":{}}"#] {
        let world = World::with_role().await;
        put(&world, broken).await;
        let fresh = world.openrouter.account().add_management_key();
        let replaced = world.write("config", json!({"management_key": fresh}));
        let said = warnings(replaced.await.unwrap());
        assert!(said.contains("bad"), "{said}");
        connect(&world, "unused").await;
        let deleted = world.delete("config/unused", json!({})).await;
        let said = warnings(deleted.unwrap());
        assert!(said.contains("bad"), "{said}");
        world.write("forget-role/bad", json!({})).await.unwrap();
        assert_eq!(world.violations().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_connection_that_it_mentions_is_in_use() {
    let world = World::connected().await;
    connect(&world, "mentioned").await;
    put_newer(&world, &"a".repeat(64), "mentioned").await;
    let refusal = world.delete("config/mentioned", json!({})).await;
    let refusal = refusal.unwrap_err().to_string();
    assert!(refusal.contains("used by the roles bad"), "{refusal}");
    let forgotten = world.write("forget-role/bad", json!({})).await;
    let left = forgotten.unwrap().unwrap().data["keys_left_behind"].clone();
    assert_eq!(left, json!(["a".repeat(64)]));
    world.delete("config/mentioned", json!({})).await.unwrap();
}

#[tokio::test]
async fn a_key_that_it_mentions_must_be_seen_by_a_new_management_key() {
    let world = World::connected().await;
    let key = world
        .openrouter
        .account()
        .create_key(NewKey::named("of a newer build"));
    put_newer(&world, &key.hash, "default").await;
    let other = world.openrouter.add_account().add_management_key();
    let refusal = world.write("config", json!({"management_key": other}));
    let refusal = refusal.await.unwrap_err().to_string();
    assert!(refusal.contains(&key.hash), "{refusal}");
    let fresh = world.openrouter.account().add_management_key();
    let written = world.write("config", json!({"management_key": fresh}));
    written.await.unwrap();
}

/// Its mark is unknown, so no key of the mount can be called a stray, and none is touched.
#[tokio::test]
async fn the_start_of_the_work_leaves_its_keys_alone() {
    let world = World::with_role().await;
    world.write("roles/bad", json!({})).await.unwrap();
    let key = world.key("bad").await.unwrap();
    let entry = world.storage.get("roles/bad").await.unwrap().unwrap();
    let mut entry: Value = serde_json::from_slice(&entry).unwrap();
    entry["version"] = json!(99);
    put(&world, &entry.to_string()).await;
    world.restart().await;
    world.pass(10_000).await;
    let hash = key["key_hash"].as_str().unwrap();
    let key = world.openrouter.account().key(hash).unwrap();
    assert_eq!(key.deleted_at, None);
    assert!(world.version().await > 2, "the others go on");
}
