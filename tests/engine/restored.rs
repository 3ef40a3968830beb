//! Storage that is older than OpenRouter's state: a snapshot was restored.

// All of this is test code; declaring it as such makes clippy allow what it allows in tests.
#[cfg(test)]
mod disabled;
#[cfg(test)]
mod elsewhere;
#[cfg(test)]
mod midway;
#[cfg(test)]
mod runs;
#[cfg(test)]
mod strays;

use openrouter_simulator::{Fault, NewKey};
use serde_json::{Value, json};

use crate::harness::{CI, ROLE, ROTATE, World, hash_of, hashes};

/// In seconds.
const DAY: i64 = 24 * 60 * 60;

/// A role that is rotated only manually.
async fn rotated_by_hand() -> World {
    let world = World::with_role().await;
    let body = json!({"disable_automated_rotation": true});
    world.write(ROLE, body).await.unwrap();
    world
}

/// Creates a key outside the engine.
fn make(world: &World, name: &str) -> String {
    let new = NewKey {
        name: name.to_owned(),
        ..NewKey::default()
    };
    world.openrouter.account().create_key(new).hash
}

/// The role's current key is deleted in OpenRouter's dashboard, which a start of the engine detects.
async fn deleted_behind_our_back(world: &World) {
    let role = world.role("app").await.unwrap();
    let hash = role["current_key"]["hash"].as_str().unwrap();
    world.openrouter.account().delete_key(hash).unwrap();
    world.restart().await;
    world.quiet().await;
}

async fn status(world: &World) -> (String, String) {
    let role = world.role("app").await.unwrap();
    let text = |field: &str| role[field].as_str().unwrap().to_owned();
    (text("rotation_status"), text("last_rotation_message"))
}

#[tokio::test]
async fn a_forgotten_rotation_is_done_again_and_its_key_lives_through_its_grace_period() {
    let world = World::with_role().await;
    let snapshot = world.snapshot();
    world.write(ROTATE, json!({})).await.unwrap();
    let forgotten = world.key("app").await.unwrap();
    world.restore(snapshot).await;
    world.restart().await;
    world.quiet().await;

    assert_eq!(world.version().await, 3);
    let role = world.role("app").await.unwrap();
    assert_eq!(hashes(&role)[0], forgotten["key_hash"].as_str().unwrap());
    assert_eq!(role["superseded_keys"].as_array().unwrap().len(), 2);
    assert_eq!(role["rotation_status"], "success");
    world.pass(599).await;
    assert_eq!(world.openrouter.account().keys().len(), 3);
    world.pass(1).await;
    assert_eq!(world.openrouter.account().keys().len(), 1);
    assert_eq!(world.violations().await, [""; 0]);
    assert_eq!(world.broken_promises(), [""; 0]);
}

/// A key that seems to have been disabled by a person was disabled by the engine itself, in a time that
/// storage has lost.
#[tokio::test]
async fn a_rotation_is_done_again_whose_old_key_is_held_since() {
    for automated in [true, false] {
        let world = World::with_role().await;
        let body = json!({"revocation_hold": 7_000, "rotation_period": "30d",
            "disable_automated_rotation": !automated});
        world.write(ROLE, body).await.unwrap();
        let snapshot = world.snapshot();
        let old = world.key("app").await.unwrap()["key_hash"].clone();
        world.write(ROTATE, json!({})).await.unwrap();
        world.pass(610).await;
        let key = world.openrouter.account().key(old.as_str().unwrap());
        assert!(key.unwrap().disabled);
        world.restore(snapshot).await;
        world.restart().await;
        world.quiet().await;
        assert_eq!(world.version().await, 3, "automated: {automated}");
        assert_ne!(world.key("app").await.unwrap()["key_hash"], old);
        assert_eq!(status(&world).await.0, "success");
    }
}

/// The order in which the two are found does not matter.
#[tokio::test]
async fn a_rotation_is_done_again_whose_old_key_is_found_to_be_held_after_the_newer_one() {
    for automated in [true, false] {
        let world = World::with_role().await;
        let body = json!({"revocation_hold": 7_000, "rotation_period": "30d",
            "disable_automated_rotation": !automated});
        world.write(ROLE, body).await.unwrap();
        let snapshot = world.snapshot();
        let old = world.key("app").await.unwrap()["key_hash"].clone();
        world.write(ROTATE, json!({})).await.unwrap();
        world.pass(610).await;
        world.restore(snapshot).await;
        let faults = world.openrouter.faults();
        let path = format!("/keys/{}", old.as_str().unwrap());
        faults.add(Fault::status(500).on("GET", &path).times(2));
        faults.add(Fault::status(403).on("POST", "/keys").forever());
        world.restart().await;
        world.pass(600).await;
        world.key("app").await.unwrap_err();
        faults.clear();
        world.pass(600).await;
        assert_eq!(world.version().await, 3, "automated: {automated}");
        assert_ne!(world.key("app").await.unwrap()["key_hash"], old);
        assert_eq!(status(&world).await.0, "success");
    }
}

#[tokio::test]
async fn a_rotation_that_a_person_had_asked_for_is_done_again_though_it_is_not_automated() {
    let world = rotated_by_hand().await;
    let snapshot = world.snapshot();
    world.write(ROTATE, json!({})).await.unwrap();
    world.restore(snapshot).await;
    world.restart().await;
    world.quiet().await;
    assert_eq!(world.version().await, 3);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_role_that_was_already_rotated_again_only_takes_the_forgotten_key_in() {
    let world = World::with_role().await;
    let snapshot = world.snapshot();
    world.write(ROTATE, json!({})).await.unwrap();
    // The listing is late, and the restored role's own rotation is due first.
    world.restore(snapshot).await;
    world.time.set(world.after(3_600));
    let faults = world.openrouter.faults();
    faults.add(Fault::status(503).on("GET", "/keys"));
    world.restart().await;
    world.pass(60).await;
    assert_eq!(world.version().await, 2);
    assert_eq!(world.violations().await, [""; 0]);
    world.write(ROTATE, json!({})).await.unwrap();
    assert_eq!(world.version().await, 4, "no number is given twice");
}

#[tokio::test]
async fn a_key_that_is_gone_is_not_handed_out_and_is_replaced_as_soon_as_that_is_possible() {
    let world = World::with_role().await;
    let faults = world.openrouter.faults();
    faults.add(Fault::status(503).on("POST", "/keys").forever());
    deleted_behind_our_back(&world).await;
    for path in ["creds/app", "static-creds/app"] {
        let refusal = world.read(path).await.unwrap_err().to_string();
        assert!(refusal.contains("is gone at OpenRouter"), "{refusal}");
        assert!(refusal.contains("its rotation failed"), "{refusal}");
    }
    let answer = world.read(ROLE).await.unwrap().unwrap();
    assert!(answer.warnings[0].contains("gone"), "{:?}", answer.warnings);
    assert_eq!(answer.data["rotation_status"], "failed");

    faults.clear();
    world.pass(60).await;
    assert_eq!(world.version().await, 2);
    assert_eq!(status(&world).await, ("success".into(), String::new()));
    world.pass(600).await;
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_role_that_is_not_rotated_by_itself_says_that_its_key_is_gone() {
    let world = rotated_by_hand().await;
    deleted_behind_our_back(&world).await;
    let refusal = world.key("app").await.unwrap_err();
    assert!(refusal.contains("rotate-role"), "{refusal}");
    let (status, message) = status(&world).await;
    assert_eq!(status, "failed");
    assert!(message.contains("gone at OpenRouter"), "{message}");
    assert_eq!(world.orders(), 1);

    world.write(ROTATE, json!({})).await.unwrap();
    assert_eq!(world.version().await, 2);
    world.pass(600).await;
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_key_that_the_management_key_does_not_see_but_that_works_is_not_gone() {
    let world = World::with_role().await;
    let other = world.openrouter.add_account();
    let body = json!({"management_key": other.add_management_key(), "force": true});
    world.write("config", body).await.unwrap();
    world.restart().await;
    world.quiet().await;
    assert_eq!(world.version().await, 1);
    assert_eq!(world.orders(), 1);
}

#[tokio::test]
async fn what_belongs_to_somebody_else_is_not_touched() {
    let world = World::with_role().await;
    let snapshot = world.snapshot();
    world.write("roles/younger", json!({})).await.unwrap();
    let younger = world.role("younger").await.unwrap();
    let own = world.key("app").await.unwrap();
    let own = own["key_name"].as_str().unwrap();
    let (mount, random) = (&own[own.len() - 32..own.len() - 24], &own[own.len() - 16..]);
    let others = [
        "app 2026-11-20 by hand".to_owned(),
        "app 2026-11-20 vault-00000000000000000000000000000000".to_owned(),
        // The same mount, but none of its roles; and one of its roles, but another mount.
        format!("app 2026-11-20 vault-{mount}00000000{random}"),
        format!("app 2026-11-20 vault-00000000{}", &own[own.len() - 24..]),
    ];
    let mut others: Vec<String> = others.iter().map(|name| make(&world, name)).collect();
    // Of a role that was created after the snapshot, whose definition is lost with it.
    others.extend(hashes(&younger));
    world.restore(snapshot).await;
    world.restart().await;
    world.pass(DAY).await;
    for hash in others {
        let key = world.openrouter.account().key(&hash).unwrap();
        assert_eq!(key.deleted_at, None, "{}", key.name);
    }
    let role = world.role("app").await.unwrap();
    assert!(role["superseded_keys"].as_array().unwrap().len() <= 1);
}

#[tokio::test]
async fn the_key_of_a_forgotten_lease_is_left_to_its_reader_and_to_its_expiry() {
    let world = World::with_role().await;
    let role = json!({"credential_type": "dynamic", "ttl": 300, "max_ttl": 3600});
    world.write(CI, role).await.unwrap();
    let snapshot = world.snapshot();
    world.read("creds/ci").await.unwrap();
    world.restore(snapshot).await;
    world.restart().await;
    world.pass(3_600).await;
    let keys = world.openrouter.account().all_keys();
    let of_lease = keys.iter().find(|key| key.name.starts_with("ci ")).unwrap();
    assert_eq!(of_lease.deleted_at, None);
    assert!(of_lease.expires_at.unwrap() <= world.after(300));
}

#[tokio::test]
async fn what_openrouter_could_not_be_asked_is_asked_again() {
    let world = World::with_role().await;
    let snapshot = world.snapshot();
    world.write(ROTATE, json!({})).await.unwrap();
    world.restore(snapshot).await;
    let faults = world.openrouter.faults();
    faults.add(Fault::status(503).on("GET", "/keys").times(2));
    faults.add(Fault::LostReply.on("GET", "/keys/*"));
    world.restart().await;
    world.pass(300).await;
    assert_eq!(world.version().await, 3);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn each_place_is_listed_once_and_only_where_there_are_roles() {
    let world = World::with_role().await;
    let account = world.openrouter.account();
    let (used, _unused) = (account.add_workspace(), account.add_workspace());
    let dynamic = json!({"credential_type": "dynamic"});
    world.write(CI, dynamic).await.unwrap();
    for role in ["roles/b", "roles/c"] {
        let body = json!({"workspace_id": used});
        world.write(role, body).await.unwrap();
    }
    world.openrouter.requests().reset();
    world.restart().await;
    world.quiet().await;
    let counts = world.openrouter.requests().counts();
    assert_eq!(counts, [("GET /keys".to_owned(), 2)].into());
    world.write(ROTATE, Value::Null).await.unwrap();
    let key = world.key("app").await.unwrap();
    let secret = key["api_key"].as_str().unwrap();
    assert_eq!(hash_of(secret), key["key_hash"].as_str().unwrap());
}
