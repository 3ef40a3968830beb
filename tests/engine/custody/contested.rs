//! A key without an owner is deleted or disabled while a role adopts it. Only one of the two happens, and the
//! caller of the other is told so. A role never has a dead key.

use std::time::Duration;

use openrouter_simulator::{Fault, Key, KeyChanges, NewKey};
use serde_json::{Value, json};

use crate::harness::{Answer, FORGET, Node, ROLE, World};

async fn world() -> (World, Key) {
    let world = World::connected().await;
    let account = world.openrouter.account();
    let key = account.create_key(NewKey::named("chatbot"));
    (world, key)
}

async fn adopt(node: &Node, secret: &str) -> Answer {
    let body = json!({"api_key": secret, "rotation_grace_period": 600, "ttl": 300});
    node.write(ROLE, body).await
}

fn ends(key: &Key) -> [(String, Value); 2] {
    let hash = &key.hash;
    [
        (format!("revoke-key/default/{hash}"), json!({})),
        (
            format!("disable-key/default/{hash}"),
            json!({"disabled": true}),
        ),
    ]
}

/// The next request of this kind is held until the faults are cleared.
fn hold(world: &World, method: &str, path: &str) {
    let held = Fault::Held {
        after_effect: false,
    };
    world.openrouter.faults().add(held.on(method, path));
}

/// Returns when a request of this kind has arrived.
async fn arrived(world: &World, method: &str, path: &str) {
    while world.openrouter.requests().to(method, path).is_empty() {
        tokio::task::yield_now().await;
    }
}

/// Waits until all other callers have finished, and releases the held request.
async fn let_go(world: &World) {
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.openrouter.faults().clear();
}

#[tokio::test]
async fn a_key_that_is_being_adopted_is_neither_deleted_nor_disabled() {
    for place in 0..2 {
        let (world, key) = world().await;
        let (path, body) = ends(&key)[place].clone();
        let node = world.node();
        // By now it is proved that the key has no owner, and the role is not stored.
        let assigned = ("GET", "/guardrails/assignments/keys");
        hold(&world, assigned.0, assigned.1);
        let ending = async {
            arrived(&world, assigned.0, assigned.1).await;
            node.write(&path, body).await
        };
        let released = async {
            arrived(&world, assigned.0, assigned.1).await;
            let_go(&world).await;
        };
        let (adopted, ended, ()) = tokio::join!(adopt(&node, key.secret()), ending, released);
        adopted.unwrap();
        let reason = ended.unwrap_err().to_string();
        assert!(reason.contains("the current key of role app"), "{reason}");
        assert!(world.lives(&key.hash) && !world.seen(&key.hash).disabled);
        assert_eq!(world.key_hash("app").await, key.hash);
        assert_eq!(world.violations().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_key_that_is_being_deleted_or_disabled_is_not_adopted() {
    for (place, request) in [(0, "DELETE"), (1, "PATCH")] {
        let (world, key) = world().await;
        let (path, body) = ends(&key)[place].clone();
        let node = world.node();
        hold(&world, request, "/keys/*");
        let adopting = async {
            arrived(&world, request, "/keys/*").await;
            adopt(&node, key.secret()).await
        };
        let released = async {
            arrived(&world, request, "/keys/*").await;
            let_go(&world).await;
        };
        let (ended, adopted, ()) = tokio::join!(node.write(&path, body), adopting, released);
        ended.unwrap();
        let reason = adopted.unwrap_err().to_string();
        assert!(reason.contains("api_key does not work"), "{reason}");
        assert!(world.role("app").await.is_none());
    }
}

#[tokio::test]
async fn a_key_that_is_being_tidied_up_is_not_adopted() {
    let world = World::with_role().await;
    let secret = world.key("app").await.unwrap()["api_key"].clone();
    let secret = secret.as_str().unwrap();
    world
        .write(FORGET, json!({"revoke_keys": false}))
        .await
        .unwrap();
    world.told("tidy/default", json!({})).await;
    world.openrouter.requests().reset();
    let node = world.node();
    hold(&world, "DELETE", "/keys/*");
    let adopting = async {
        arrived(&world, "DELETE", "/keys/*").await;
        adopt(&node, secret).await
    };
    let released = async {
        arrived(&world, "DELETE", "/keys/*").await;
        let_go(&world).await;
    };
    let removing = node.write("tidy/default", json!({"dry_run": false}));
    let (removed, adopted, ()) = tokio::join!(removing, adopting, released);
    assert_eq!(removed.unwrap().unwrap().data["removed"], 1);
    adopted.unwrap_err();
    assert!(world.role("app").await.is_none());
}

/// A removal reads all roles once for many keys. Later changes to a key still count.
#[tokio::test]
async fn a_key_that_is_adopted_while_a_removal_is_under_way_is_kept() {
    let world = World::with_role().await;
    let secret = world.key("app").await.unwrap()["api_key"].clone();
    let secret = secret.as_str().unwrap();
    let hash = world.stray().await;
    world.told("tidy/default", json!({})).await;
    world.openrouter.requests().reset();
    let node = world.node();
    hold(&world, "GET", "/keys/*");
    let adopting = async {
        arrived(&world, "GET", "/keys/*").await;
        let adopted = adopt(&node, secret).await;
        world.openrouter.faults().clear();
        adopted
    };
    let removing = node.write("tidy/default", json!({"dry_run": false}));
    let (removed, adopted) = tokio::join!(removing, adopting);
    adopted.unwrap();
    let told = removed.unwrap().unwrap().data;
    assert_eq!(told["removed"], 0);
    let why = told["kept"][&hash].as_str().unwrap();
    assert!(why.contains("the current key of role app"), "{why}");
    assert!(world.lives(&hash));
    assert_eq!(world.key_hash("app").await, hash);
}

/// The removal has read all roles before the order, and looks the key up after it.
#[tokio::test]
async fn a_key_that_gets_the_name_of_a_later_order_is_kept() {
    let world = World::with_role().await;
    let hash = world.stray().await;
    world.told("tidy/default", json!({})).await;
    world.openrouter.requests().reset();
    let (node, account) = (world.node(), world.openrouter.account());
    hold(&world, "GET", "/keys/*");
    let renaming = async {
        arrived(&world, "GET", "/keys/*").await;
        let faults = world.openrouter.faults();
        faults.add(Fault::LostReply.on("POST", "/keys"));
        faults.add(Fault::status(503).on("GET", "/keys").forever());
        node.write("roles/other", json!({})).await.unwrap_err();
        let ordered = account.keys().last().unwrap().name.clone();
        let changes = KeyChanges {
            name: Some(ordered),
            ..KeyChanges::default()
        };
        account.change_key(&hash, &changes).unwrap();
        faults.clear();
        faults.add(Fault::status(503).on("GET", "/keys").forever());
    };
    let removing = node.write("tidy/default", json!({"dry_run": false}));
    let (removed, ()) = tokio::join!(removing, renaming);
    let told = removed.unwrap().unwrap().data;
    assert_eq!(told["removed"], 0);
    let why = told["kept"][&hash].as_str().unwrap();
    assert!(why.contains("an unconfirmed key of role other"), "{why}");
    assert!(world.lives(&hash));
}

#[tokio::test]
async fn while_it_is_not_certain_whether_a_key_is_adopted_it_is_neither_deleted_nor_disabled() {
    for (takes_effect, place) in [(true, 0), (true, 1), (false, 0), (false, 1)] {
        let (world, key) = world().await;
        let (path, body) = ends(&key)[place].clone();
        world.node().storage.late_when_putting(ROLE);
        adopt(&world.node(), key.secret()).await.unwrap_err();
        let reason = world.write(&path, body.clone()).await.unwrap_err();
        let reason = reason.to_string();
        assert!(reason.contains("has adopted"), "{reason}");
        assert!(world.lives(&key.hash) && !world.seen(&key.hash).disabled);
        if takes_effect {
            world.node().storage.commit_what_is_late().await;
        }
        world.pass(180).await;
        let ended = world.write(&path, body).await;
        if takes_effect {
            let reason = ended.unwrap_err().to_string();
            assert!(reason.contains("the current key of role app"), "{reason}");
            assert_eq!(world.key_hash("app").await, key.hash);
        } else {
            ended.unwrap();
            assert!(!world.lives(&key.hash) || world.seen(&key.hash).disabled);
        }
        assert_eq!(world.violations().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_leader_that_was_deposed_while_it_adopted_a_key_neither_deletes_nor_disables_it() {
    for place in 0..2 {
        let (world, key) = world().await;
        let (path, body) = ends(&key)[place].clone();
        let deposed = world.node();
        deposed.storage.deposed_when_putting(ROLE);
        adopt(&deposed, key.secret()).await.unwrap_err();
        world.take_over().await;
        for seconds in [0, 300] {
            world.time.set(world.after(seconds));
            deposed.write(&path, body.clone()).await.unwrap_err();
            let seen = world.seen(&key.hash);
            assert!(world.lives(&key.hash) && !seen.disabled, "{seconds}");
        }
        let reason = world.write(&path, body).await.unwrap_err().to_string();
        assert!(reason.contains("the current key of role app"), "{reason}");
        assert_eq!(world.key_hash("app").await, key.hash);
    }
}

#[tokio::test]
async fn after_a_crash_in_an_adoption_the_key_is_the_roles_or_may_be_deleted() {
    for (point, is_adopted) in [
        ("before put roles/app", false),
        ("after put roles/app", true),
    ] {
        let (world, key) = world().await;
        let [(path, body), _] = ends(&key);
        let node = world.node();
        world.die_during(point, adopt(&node, key.secret())).await;
        world.restart().await;
        assert_eq!(
            world.write(&path, body).await.is_err(),
            is_adopted,
            "{point}"
        );
        assert_eq!(world.lives(&key.hash), is_adopted, "{point}");
        assert_eq!(world.key("app").await.is_ok(), is_adopted, "{point}");
    }
}

/// A role that "was not created" may exist later, and would be deleted without a check.
#[tokio::test]
async fn a_key_is_not_adopted_by_a_role_while_another_may_have_it() {
    let (world, key) = world().await;
    let node = world.node();
    node.storage.late_when_putting(ROLE);
    adopt(&node, key.secret()).await.unwrap_err();
    let other = "roles/other";
    let body = json!({"api_key": key.secret(), "rotation_grace_period": 600, "ttl": 300});
    let refusal = node
        .write(other, body.clone())
        .await
        .unwrap_err()
        .to_string();
    assert!(refusal.contains("not certain before"), "{refusal}");
    node.storage.commit_what_is_late().await;
    world.pass(180).await;
    let refusal = world.write(other, body).await.unwrap_err().to_string();
    assert!(
        refusal.contains("a key of role \"app\" already"),
        "{refusal}"
    );
}
