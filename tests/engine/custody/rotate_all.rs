//! Rotating every role of a connection: what is rotated, what is skipped, what is named, and who does not
//! have to wait for it.

use openrouter_simulator::{Fault, NewKey};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use vault_plugin_secrets_openrouter::logical::{Entry, Operation, Storage};

use crate::harness::{CI, ROLE, ROTATE, World, role};

const PATH: &str = "rotate-all/default";

impl World {
    /// Which of its keys a role hands out.
    async fn version_of(&self, role: &str) -> u64 {
        let data = self.key(role).await.unwrap();
        data["key_version"].as_u64().unwrap()
    }

    async fn hash_of(&self, role: &str) -> String {
        let role = self.role(role).await.unwrap();
        role["current_key"]["hash"].as_str().unwrap().to_owned()
    }
}

/// Two rotating roles and a lease of the connection, and a role of another connection, a minute ago.
async fn world() -> World {
    let world = World::with_role().await;
    let mut manual = role();
    manual["disable_automated_rotation"] = json!(true);
    world.write("roles/manual", manual).await.unwrap();
    let dynamic = json!({"credential_type": "dynamic", "ttl": 300, "max_ttl": 3600});
    world.write(CI, dynamic).await.unwrap();
    let second = json!({
        "management_key": world.openrouter.management_key(), "api_url": world.gate_url(),
    });
    world.write("config/second", second).await.unwrap();
    let mut other = role();
    other["connection"] = json!("second");
    world.write("roles/other", other).await.unwrap();
    world.pass(60).await;
    world
}

#[tokio::test]
async fn every_role_of_the_connection_has_a_new_key_and_the_old_ones_their_grace() {
    let world = world().await;
    let lease = world.lease().await.unwrap();
    let told = world.told(PATH, json!({})).await;
    assert_eq!(told["state"], "finished");
    assert_eq!((&told["roles"], &told["rotated"]), (&json!(2), &json!(2)));
    assert_eq!(
        (&told["skipped"], &told["failed"]),
        (&json!({}), &json!({}))
    );
    for (role, version) in [("app", 2), ("manual", 2), ("other", 1)] {
        assert_eq!(world.version_of(role).await, version, "{role}");
    }
    assert!(world.lives(lease["key_hash"].as_str().unwrap()));
    let superseded = &world.role("app").await.unwrap()["superseded_keys"][0];
    let revoke_at = superseded["revoke_at"].as_str().unwrap();
    assert_eq!(revoke_at, world.after(600).to_string());
    assert_eq!(world.run(PATH).await, told);
    assert_eq!(world.violations().await, [""; 0]);
    assert_eq!(world.broken_promises(), [""; 0]);
}

#[tokio::test]
async fn an_emergency_leaves_no_older_key_of_the_connection_alive() {
    let world = world().await;
    world.write(ROTATE, Value::Null).await.unwrap();
    world.lease().await.unwrap();
    world.pass(60).await;
    let before = world.openrouter.account().keys();
    let told = world.told(PATH, json!({"rotation_grace_period": 0})).await;
    assert_eq!(told["state"], "finished", "{told:?}");
    assert_eq!(told["rotation_grace_period"], 0);
    let other = world.hash_of("other").await;
    for key in before {
        assert_eq!(world.lives(&key.hash), key.hash == other, "{}", key.name);
    }
    // The server ends its lease later, and finds nothing left to do.
    world.revoke().await.unwrap();
    assert_eq!(world.violations().await, [""; 0]);
    assert_eq!(world.intents(), [""; 0]);
}

#[tokio::test]
async fn a_role_that_was_rotated_since_loses_its_older_keys_only_in_an_emergency() {
    let world = world().await;
    // The run begins, and makes no progress. Meanwhile a person rotates one of the roles.
    let fault = Fault::ResetBeforeEffect.on("GET", "/keys/*").forever();
    world.openrouter.faults().add(fault);
    let told = world.told(PATH, json!({"rotation_grace_period": 0})).await;
    assert_eq!(
        (&told["state"], &told["rotated"]),
        (&json!("running"), &json!(0))
    );
    world.write(ROTATE, Value::Null).await.unwrap();
    assert_eq!(world.openrouter.account().keys().len(), 4);
    world.openrouter.faults().clear();
    world.pass(120).await;
    assert_eq!(world.run(PATH).await["state"], "finished");
    assert_eq!(world.version().await, 2, "it was done already");
    assert_eq!(world.openrouter.account().keys().len(), 3);
}

#[tokio::test]
async fn a_key_that_somebody_disabled_is_not_replaced_and_is_named() {
    for grace in [json!({}), json!({"rotation_grace_period": 0})] {
        let world = world().await;
        world.write(ROTATE, Value::Null).await.unwrap();
        world.pass(60).await;
        let (current, superseded) = (world.current().await, world.superseded().await);
        let account = world.openrouter.account();
        account.set_disabled(&current, true).unwrap();
        let told = world.told(PATH, grace.clone()).await;
        assert_eq!(
            (&told["state"], &told["rotated"]),
            (&json!("finished"), &json!(1))
        );
        let why = told["skipped"]["app"].as_str().unwrap();
        assert!(
            why.contains(&current) && why.contains("rotate-role/app"),
            "{why}"
        );
        assert_eq!(world.current().await, current);
        let is_emergency = grace != json!({});
        assert_eq!(world.lives(&superseded), !is_emergency);
    }
}

#[tokio::test]
async fn a_role_that_cannot_be_rotated_is_named_and_keeps_nobody_waiting() {
    let world = world().await;
    let (key, value) = ("roles/broken".to_owned(), br#"{"connection":"default"}"#);
    let value = value.to_vec();
    world.storage.put(Entry { key, value }).await.unwrap();
    let told = world
        .told(PATH, json!({"rotation_grace_period": 301}))
        .await;
    assert_eq!(told["state"], "finished", "{told:?}");
    let failed = told["failed"].as_object().unwrap();
    let names: Vec<_> = failed.keys().collect();
    assert_eq!(names, ["app", "broken", "manual"]);
    assert!(failed["app"].as_str().unwrap().contains("must be 0"));
    assert!(failed["broken"].as_str().unwrap().contains("roles/broken"));
    assert_eq!(world.version().await, 1);
    let told = world.told(PATH, json!({})).await;
    assert_eq!(told["rotated"], 2, "the others are not kept from it");
}

#[tokio::test]
async fn while_openrouter_is_away_the_answer_says_so_and_the_run_goes_on_by_itself() {
    let world = world().await;
    world.cut_off_openrouter();
    let began = world.time.now();
    let answer = world.write(PATH, json!({})).await.unwrap().unwrap();
    assert!(world.time.now() <= began + jiff::SignedDuration::from_secs(45));
    assert_eq!(answer.data["state"], "running");
    assert_eq!(answer.data["failed"].as_object().unwrap().len(), 2);
    assert!(answer.warnings[0].contains("continues on its own"));
    world.openrouter.faults().clear();
    world.pass(120).await;
    let run = world.run(PATH).await;
    assert_eq!(
        (&run["state"], &run["rotated"]),
        (&json!("finished"), &json!(2))
    );
    assert_eq!(run["failed"], json!({}));
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn whoever_asks_again_joins_the_run_and_an_emergency_takes_its_place() {
    let world = world().await;
    world.cut_off_openrouter();
    let first = world.told(PATH, json!({})).await;
    let joined = world
        .write(PATH, json!({"rotation_grace_period": 600}))
        .await;
    let joined = joined.unwrap().unwrap();
    assert_eq!(joined.data["began_at"], first["began_at"]);
    assert!(
        joined.warnings[0].contains("joined the run"),
        "{:?}",
        joined.warnings
    );
    let emergency = world.told(PATH, json!({"rotation_grace_period": 0})).await;
    assert_ne!(emergency["began_at"], first["began_at"]);
    world.openrouter.faults().clear();
    world.pass(120).await;
    let run = world.run(PATH).await;
    assert_eq!(
        (&run["state"], &run["rotated"]),
        (&json!("finished"), &json!(2))
    );
    assert_eq!(world.openrouter.account().keys().len(), 3, "nothing older");
    assert_eq!(world.version().await, 2, "each role was rotated once");
}

#[tokio::test]
async fn two_who_ask_at_once_get_one_new_key_for_each_role() {
    let world = world().await;
    let (one, two) = tokio::join!(world.told(PATH, json!({})), world.told(PATH, json!({})));
    assert_eq!(one["began_at"], two["began_at"]);
    for role in ["app", "manual"] {
        assert_eq!(world.version_of(role).await, 2, "{role}");
    }
}

#[tokio::test]
async fn giving_up_waiting_does_not_cancel_the_run() {
    let world = world().await;
    let gone = CancellationToken::new();
    gone.cancel();
    let node = world.node();
    let answer = node
        .call_for(gone, Operation::Update, PATH, json!({}))
        .await;
    let told = answer.unwrap().unwrap().data;
    assert_eq!(told["state"], "running");
    world.pass(10).await;
    assert_eq!(world.run(PATH).await["state"], "finished");
    assert_eq!(world.version().await, 2);
}

#[tokio::test]
async fn the_next_node_goes_on_and_rotates_no_role_twice() {
    let world = world().await;
    world.copy_role(5).await;
    world.restart().await;
    world.pass(60).await;
    world
        .die_during("after put roles/app", world.write(PATH, json!({})))
        .await;
    world.restart().await;
    world.pass(120).await;
    let run = world.run(PATH).await;
    assert_eq!(run["state"], "finished", "{run:?}");
    assert_eq!((&run["roles"], &run["rotated"]), (&json!(7), &json!(7)));
    for role in ["app", "manual", "copy-1", "copy-5"] {
        assert_eq!(world.version_of(role).await, 2, "{role}");
    }
}

#[tokio::test]
async fn a_role_that_is_deleted_meanwhile_is_no_loss() {
    let world = world().await;
    let fault = Fault::ResetBeforeEffect.on("POST", "/keys").forever();
    world.openrouter.faults().add(fault);
    let told = world.told(PATH, json!({})).await;
    assert!(told["failed"]["manual"].is_string());
    world.delete("roles/manual", json!({})).await.unwrap();
    world.openrouter.faults().clear();
    world.pass(700).await;
    let run = world.run(PATH).await;
    assert_eq!(
        (&run["state"], &run["failed"]),
        (&json!("finished"), &json!({}))
    );
    assert_eq!((&run["roles"], &run["rotated"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn a_lease_that_was_being_made_when_an_emergency_began_does_not_survive_it() {
    let world = world().await;
    let held = Fault::held().on("POST", "/keys");
    world.openrouter.faults().add(held);
    let node = world.node();
    let reader = tokio::spawn({
        let node = std::sync::Arc::clone(&node);
        async move { node.read("creds/ci").await }
    });
    world.holding(1).await;
    world.time.set(world.after(1));
    let gone = CancellationToken::new();
    gone.cancel();
    let body = json!({"rotation_grace_period": 0});
    node.call_for(gone, Operation::Update, PATH, body)
        .await
        .unwrap();
    world.openrouter.faults().clear();
    let lease = reader.await.unwrap().unwrap().unwrap();
    world.pass(60).await;
    assert_eq!(world.run(PATH).await["state"], "finished");
    assert!(!world.lives(lease.data["key_hash"].as_str().unwrap()));
    // A role that is read now is newer.
    let lease = world.lease().await.unwrap();
    world.pass(60).await;
    assert!(world.lives(lease["key_hash"].as_str().unwrap()));
}

#[tokio::test]
async fn an_order_with_an_unknown_outcome_is_named() {
    let world = world().await;
    world.die_during_a_rotation("after POST /keys").await;
    world.restart().await;
    world.pass(60).await;
    let told = world.told(PATH, json!({"rotation_grace_period": 0})).await;
    assert_eq!(told["state"], "finished", "{told:?}");
    let lost = world.role("app").await.unwrap()["unconfirmed_keys"][0]["name"].clone();
    let why = told["failed"][lost.as_str().unwrap()].as_str().unwrap();
    assert!(why.contains("never confirmed"), "{why}");
}

#[tokio::test]
async fn without_a_run_there_is_nothing_to_read_and_without_a_connection_nothing_to_rotate() {
    let world = World::connected().await;
    assert!(world.read(PATH).await.unwrap().is_none());
    let missing = world.write("rotate-all/nowhere", json!({})).await;
    assert!(missing.unwrap_err().to_string().contains("config/nowhere"));
    let told = world.told(PATH, json!({})).await;
    assert_eq!(
        (&told["state"], &told["roles"]),
        (&json!("finished"), &json!(0))
    );
}

/// The role is stored after the emergency has listed the roles.
#[tokio::test]
async fn an_emergency_waits_for_an_adoption_under_way_and_ends_its_key() {
    for is_told in [true, false] {
        let world = World::connected().await;
        let account = world.openrouter.account();
        let key = account.create_key(NewKey::named("chatbot"));
        let body = json!({"api_key": key.secret(), "rotation_grace_period": 600, "ttl": 300});
        let node = world.node();
        let adopting = async move { node.write(ROLE, body).await };
        let emergency = json!({"rotation_grace_period": 0});
        if is_told {
            let held = world.node().storage.hold_when_putting(ROLE);
            let adoption = tokio::spawn(adopting);
            held.has_come.cancelled().await;
            world.time.set(world.after(1));
            let told = world.told(PATH, emergency).await;
            assert_eq!(told["state"], "running", "{told:?}");
            held.let_go.cancel();
            adoption.await.unwrap().unwrap();
        } else {
            world.node().storage.late_when_putting(ROLE);
            adopting.await.unwrap_err();
            world.time.set(world.after(1));
            let told = world.told(PATH, emergency).await;
            assert_eq!(told["state"], "running", "{told:?}");
            world.node().storage.commit_what_is_late().await;
        }
        world.pass(180).await;
        let run = world.run(PATH).await;
        assert_eq!(run["state"], "finished", "{run:?}");
        assert_eq!((&run["rotated"], &run["failed"]), (&json!(1), &json!({})));
        assert!(!world.lives(&key.hash), "told: {is_told}");
        assert_eq!(world.version().await, 2);
    }
}

/// The store of the adoption fails permanently, so the emergency has nothing to wait for in the end.
#[tokio::test]
async fn an_emergency_does_not_wait_for_ever_for_an_adoption_that_failed() {
    let world = World::connected().await;
    let account = world.openrouter.account();
    let key = account.create_key(NewKey::named("chatbot"));
    let body = json!({"api_key": key.secret(), "rotation_grace_period": 600, "ttl": 300});
    world.node().storage.late_when_putting(ROLE);
    world.write(ROLE, body).await.unwrap_err();
    let emergency = json!({"rotation_grace_period": 0});
    assert_eq!(world.told(PATH, emergency).await["state"], "running");
    world.pass(180).await;
    let run = world.run(PATH).await;
    assert_eq!(run["state"], "finished", "{run:?}");
    assert_eq!((&run["roles"], &run["failed"]), (&json!(0), &json!({})));
    assert!(world.lives(&key.hash), "it was never the mount's");
}
