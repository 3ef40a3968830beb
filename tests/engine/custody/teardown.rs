//! Tearing a mount down: which keys die, what is rejected in the meantime, what is named, and how to cancel
//! it.

use openrouter_simulator::{Fault, NewKey};
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::{Entry, Storage};

use super::with_keys;
use crate::harness::{CI, ROLE, ROTATE, World, role};

const PATH: &str = "teardown";

impl World {
    async fn refusal(&self, path: &str, body: Value) -> String {
        self.write(path, body).await.unwrap_err().to_string()
    }

    fn living(&self) -> Vec<String> {
        let keys = self.openrouter.account().keys();
        keys.into_iter().map(|key| key.hash).collect()
    }
}

#[tokio::test]
async fn every_key_of_the_mount_dies_and_nobody_elses() {
    let (world, keys) = with_keys().await;
    let told = world.told(PATH, json!({})).await;
    assert_eq!(told["state"], "finished", "{told:?}");
    assert_eq!(
        (&told["roles"], &told["roles_done"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(told["left_alive"], json!({}));
    assert_eq!(
        world.living(),
        [keys["foreign"].clone(), keys["unmanaged"].clone()]
    );
    // The server ends its lease later, and finds nothing left to do.
    world.revoke().await.unwrap();
    assert_eq!(world.intents(), [""; 0]);
    // Definitions stay.
    assert_eq!(world.role("app").await.unwrap()["limit"], 5.0);
    assert_eq!(world.role("ci").await.unwrap()["max_ttl"], 3600);
    assert_eq!(world.run(PATH).await, told);
}

#[tokio::test]
async fn during_a_teardown_no_key_is_handed_out_renewed_or_created() {
    let (world, _) = with_keys().await;
    assert_eq!(world.run("status").await["torn_down_since"], Value::Null);
    world.told(PATH, json!({})).await;
    for _ in 0..2 {
        let began = &world.run(PATH).await["began_at"];
        assert_eq!(&world.run("status").await["torn_down_since"], began);
        world.openrouter.requests().reset();
        let before = world.node().storage.calls();
        for path in ["creds/app", "static-creds/app", "creds/ci"] {
            let reason = world.read(path).await.unwrap_err().to_string();
            assert!(reason.contains("torn down"), "{path}: {reason}");
            assert!(reason.contains("delete \"teardown\""), "{path}: {reason}");
        }
        let reason = world.renew(0).await.unwrap_err().to_string();
        assert!(reason.contains("torn down"), "{reason}");
        assert_eq!(world.node().storage.calls(), before, "it is in memory");
        for (path, body) in [
            (ROTATE, json!({})),
            ("rotate-all/default", json!({})),
            ("tidy/default", json!({})),
            ("roles/new", role()),
        ] {
            let reason = world.refusal(path, body).await;
            assert!(reason.contains("torn down"), "{path}: {reason}");
        }
        assert!(world.role("new").await.is_none());
        // Longer than a period: the rotation that was due waits.
        world.pass(4_000).await;
        assert_eq!(world.orders(), 0);
        assert_eq!(world.run(PATH).await["state"], "finished");
        world.restart().await;
        world.quiet().await;
    }
}

#[tokio::test]
async fn a_teardown_that_is_cancelled_gives_automated_roles_new_keys() {
    let world = World::with_role().await;
    let mut manual = role();
    manual["disable_automated_rotation"] = json!(true);
    world.write("roles/manual", manual).await.unwrap();
    world.told(PATH, json!({})).await;
    assert_eq!(world.living(), [""; 0]);
    let cancelled = world.delete(PATH, Value::Null).await.unwrap().unwrap();
    assert_eq!(cancelled.data["state"], "cancelled");
    world.quiet().await;
    assert_eq!(world.version().await, 2, "at once");
    let reason = world.read("creds/manual").await.unwrap_err().to_string();
    assert!(reason.contains("was revoked by a teardown"), "{reason}");
    assert!(reason.contains("rotate-role makes a new one"), "{reason}");
    world.write("rotate-role/manual", json!({})).await.unwrap();
    world.read("creds/manual").await.unwrap().unwrap();
    world.pass(700).await;
    assert_eq!(world.violations().await, [""; 0]);
    let again = world.delete(PATH, Value::Null).await.unwrap_err();
    assert!(again.to_string().contains("not torn down"), "{again}");
    assert_eq!(world.run(PATH).await["state"], "cancelled");
}

#[tokio::test]
async fn a_teardown_that_is_cancelled_in_the_middle_leaves_what_it_has_not_reached() {
    let world = World::with_role().await;
    let before = world.current().await;
    world.cut_off_openrouter();
    let told = world.told(PATH, json!({})).await;
    assert_eq!(told["state"], "running");
    assert!(told["left_alive"][&before].is_string(), "{told:?}");
    world.delete(PATH, Value::Null).await.unwrap();
    world.openrouter.faults().clear();
    world.pass(120).await;
    assert_eq!(world.version().await, 2);
    assert!(world.lives(&before), "it has its grace period");
    world.pass(700).await;
    assert_eq!(world.violations().await, [""; 0]);
    assert_eq!(world.run(PATH).await["state"], "cancelled");
}

#[tokio::test]
async fn while_openrouter_is_away_each_key_is_named_and_the_teardown_goes_on_by_itself() {
    let (world, keys) = with_keys().await;
    world.cut_off_openrouter();
    let told = world.told(PATH, json!({})).await;
    assert_eq!(told["state"], "running");
    let left: Vec<_> = told["left_alive"].as_object().unwrap().keys().collect();
    for kind in ["current", "superseded", "leased"] {
        assert!(left.contains(&&keys[kind]), "{kind} in {left:?}");
    }
    let joined = world.told(PATH, json!({})).await;
    assert_eq!(joined["began_at"], told["began_at"]);
    world.openrouter.faults().clear();
    world.pass(300).await;
    assert_eq!(world.run(PATH).await["state"], "finished");
    assert_eq!(world.living().len(), 2);
}

#[tokio::test]
async fn a_key_that_openrouter_refuses_to_delete_is_named_and_tried_when_it_is_asked_again() {
    let world = World::with_role().await;
    let current = world.current().await;
    let forbidden = Fault::status(403).on("DELETE", "/keys/*").forever();
    world.openrouter.faults().add(forbidden);
    let answer = world.write(PATH, json!({})).await.unwrap().unwrap();
    assert_eq!(answer.data["state"], "finished");
    let why = answer.data["left_alive"][&current].as_str().unwrap();
    assert!(why.contains("403"), "{why}");
    assert!(answer.warnings[0].contains("1 keys may still be alive"));
    let reason = world.read("creds/app").await.unwrap_err().to_string();
    assert!(reason.contains("torn down"), "{reason}");
    world.openrouter.faults().clear();
    let told = world.told(PATH, json!({})).await;
    assert_eq!(told["left_alive"], json!({}));
    assert_eq!(world.living(), [""; 0]);
}

#[tokio::test]
async fn a_key_whose_order_was_lost_dies_too_and_before_its_time() {
    let world = World::with_role().await;
    world.die_during_a_rotation("after POST /keys").await;
    world.restart().await;
    world.pass(60).await;
    assert_eq!(world.living().len(), 2, "somebody may use it");
    let told = world.told(PATH, json!({})).await;
    assert_eq!(told["state"], "finished", "{told:?}");
    assert_eq!(world.living(), [""; 0]);
    assert_eq!(world.intents(), [""; 0]);
}

/// Storage must lead to the key that could not be deleted, in case the teardown is cancelled. A key of a
/// dynamic role would otherwise live until a person removes it.
#[tokio::test]
async fn an_order_that_arrived_twice_stays_known_until_both_its_keys_are_dead() {
    for refused in [0, 1] {
        let world = World::with_dynamic_role().await;
        let reading = world.read("creds/ci");
        world.die_during("after POST /keys", reading).await;
        let account = world.openrouter.account();
        let lost = account.keys().pop().unwrap();
        let twin = account.create_key(NewKey::named(&lost.name));
        let keys = [lost.hash, twin.hash];
        let left = &keys[refused];
        world.restart().await;
        let intents = world.intents();
        assert_eq!(intents.len(), 1);
        let fault = Fault::status(500).on("DELETE", &format!("/keys/{left}"));
        world.openrouter.faults().add(fault.forever());
        let told = world.told(PATH, json!({})).await;
        assert_eq!(told["state"], "running");
        assert!(told["left_alive"][left].is_string(), "{told:?}");
        assert_eq!(world.living(), std::slice::from_ref(left));
        assert_eq!(world.intents(), intents);
        world.delete(PATH, Value::Null).await.unwrap();
        world.openrouter.faults().clear();
        world.pass(600).await;
        assert_eq!(world.living(), [""; 0]);
        assert_eq!(world.intents(), [""; 0]);
    }
}

#[tokio::test]
async fn an_order_that_may_take_effect_late_is_waited_for() {
    let world = World::with_role().await;
    let fault = Fault::ResetBeforeEffect.on("POST", "/keys");
    world.openrouter.faults().add(fault);
    world.write(ROTATE, json!({})).await.unwrap_err();
    let told = world.told(PATH, json!({})).await;
    assert_eq!(
        (&told["state"], &told["roles_done"]),
        (&json!("running"), &json!(1))
    );
    let left = told["left_alive"].as_object().unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left.keys().all(|name| name.starts_with("app ")), "{left:?}");
    world.pass(1_200).await;
    let run = world.run(PATH).await;
    assert_eq!(
        (&run["state"], &run["left_alive"]),
        (&json!("finished"), &json!({}))
    );
    assert_eq!(world.living(), [""; 0]);
}

#[tokio::test]
async fn a_lease_that_is_being_made_is_refused_and_its_key_dies() {
    let world = World::with_dynamic_role().await;
    let held = Fault::held().on("POST", "/keys");
    world.openrouter.faults().add(held);
    let node = world.node();
    let reader = tokio::spawn({
        let node = std::sync::Arc::clone(&node);
        async move { node.read("creds/ci").await }
    });
    world.holding(1).await;
    let teardown = tokio::spawn({
        let node = std::sync::Arc::clone(&node);
        async move { node.write(PATH, json!({})).await }
    });
    while world.storage.get("runs/teardown").await.unwrap().is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert!(!teardown.is_finished(), "it waits for the order");
    world.openrouter.faults().clear();
    let refused = reader.await.unwrap().unwrap_err().to_string();
    assert!(refused.contains("torn down"), "{refused}");
    world.pass(60).await;
    teardown.await.unwrap().unwrap();
    assert_eq!(world.run(PATH).await["state"], "finished");
    assert_eq!(world.living(), [""; 0]);
    assert_eq!(world.intents(), [""; 0]);
}

#[tokio::test]
async fn the_key_of_an_unreadable_role_dies_by_its_mark_or_by_its_hash() {
    for marked in [true, false] {
        let world = World::with_role().await;
        let current = world.current().await;
        if !marked {
            let changes = openrouter_simulator::KeyChanges {
                name: Some("renamed".to_owned()),
                ..Default::default()
            };
            let account = world.openrouter.account();
            account.change_key(&current, &changes).unwrap();
        }
        let broken = json!({"hash": current, "connection": "default"}).to_string();
        let (key, value) = (ROLE.to_owned(), broken.clone().into_bytes());
        world.storage.put(Entry { key, value }).await.unwrap();
        let told = world.told(PATH, json!({})).await;
        assert_eq!(
            (&told["state"], &told["left_alive"]),
            (&json!("finished"), &json!({}))
        );
        assert_eq!(world.living(), [""; 0], "marked: {marked}");
        let stored = world.storage.get(ROLE).await.unwrap().unwrap();
        assert_eq!(String::from_utf8(stored).unwrap(), broken);
    }
}

#[tokio::test]
async fn a_role_that_is_deleted_meanwhile_is_deleted() {
    let world = World::with_role().await;
    world.cut_off_openrouter();
    world.told(PATH, json!({})).await;
    world.openrouter.faults().clear();
    world.delete(ROLE, Value::Null).await.unwrap();
    assert!(world.role("app").await.is_none());
    world.pass(120).await;
    let run = world.run(PATH).await;
    assert_eq!(
        (&run["state"], &run["left_alive"]),
        (&json!("finished"), &json!({}))
    );
    assert_eq!(world.living(), [""; 0]);
}

/// It continues with what it read, and must not end keys that its successor has created.
#[tokio::test]
async fn a_deposed_node_ends_no_key_that_was_made_after_the_teardown_was_cancelled() {
    let (world, _) = with_keys().await;
    world.cut_off_openrouter();
    world.told(PATH, json!({})).await;
    let old = world.node();
    old.storage.deposed_when_putting("runs/");
    world.openrouter.faults().clear();
    world.time.set(world.after(60));
    old.life.quiet().await;
    world.take_over().await;
    world.delete(PATH, Value::Null).await.unwrap();
    world.write(CI, json!({"ttl": 3_000})).await.unwrap();
    world.quiet().await;
    world.write(ROTATE, json!({})).await.unwrap();
    let made = [world.current().await, world.lease_hash().await];
    for seconds in [30, 120, 300] {
        world.time.set(world.after(seconds));
        old.life.quiet().await;
        world.quiet().await;
        for hash in &made {
            assert!(world.lives(hash), "{seconds} s later");
        }
    }
    old.backend.cleanup().await;
}

/// The leader that revoked the key could not delete the record any more, and its successor does not know.
#[tokio::test]
async fn a_lease_whose_key_a_run_may_have_revoked_is_not_renewed_by_the_next_leader() {
    let emergency = json!({"rotation_grace_period": 0});
    for (run, body) in [("teardown", json!({})), ("rotate-all/default", emergency)] {
        let world = World::with_dynamic_role().await;
        let old = world.lease_hash().await;
        world.pass(60).await;
        let running = world.write(run, body);
        world.die_during("after DELETE /keys/*", running).await;
        assert!(!world.lives(&old), "{run}");
        world.cut_off_openrouter();
        world.restart().await;
        if run == "teardown" {
            world.delete(run, Value::Null).await.unwrap();
        }
        assert_eq!(
            world.records().await.len(),
            1,
            "{run}: nobody knows that it is gone"
        );
        let refusal = world.renew(0).await.unwrap_err().to_string();
        assert!(refusal.contains("read again"), "{run}: {refusal}");
        world.openrouter.faults().clear();
        world.pass(60).await;
        let new = world.lease_hash().await;
        world.revoke().await.unwrap();
        assert_eq!(world.renew(0).await.unwrap().as_secs(), 300, "{run}");
        assert!(world.lives(&new), "{run}");
    }
}

#[tokio::test]
async fn a_teardown_whose_store_failed_is_in_force_only_if_it_was_committed() {
    let world = World::with_role().await;
    world.node().storage.late_when_putting("runs/teardown");
    world.refusal(PATH, json!({})).await;
    world.key("app").await.unwrap();
    world.node().storage.commit_what_is_late().await;
    // The next node would find it, and so does this one.
    world.pass(200).await;
    assert_eq!(world.run(PATH).await["state"], "finished");
    assert_eq!(world.living(), [""; 0]);
}

/// The server's cache goes on saying that there is none. What nobody can see or cancel here must not be carried
/// out by the next leader, whenever that comes.
#[tokio::test]
async fn a_teardown_that_was_committed_unheard_is_not_carried_out_by_the_next_leader() {
    for plugin_dies in [false, true] {
        let world = World::with_role().await;
        world.node().storage.unheard_when_putting("runs/teardown");
        world.refusal(PATH, json!({})).await;
        if plugin_dies {
            world.restart_plugin().await;
        }
        world.pass(200).await;
        assert!(world.read(PATH).await.unwrap().is_none());
        let key = world.key_hash("app").await;
        world.restart().await;
        world.pass(60).await;
        assert!(world.lives(&key), "the plugin died: {plugin_dies}");
        assert!(world.read(PATH).await.unwrap().is_none());
        assert_eq!(world.violations().await, [""; 0]);
    }
}

/// `left_alive` must name each key that may be alive.
#[tokio::test]
async fn a_teardown_names_a_role_whose_hashes_cannot_be_read() {
    let world = World::connected().await;
    let key = world
        .openrouter
        .account()
        .create_key(NewKey::named("chatbot"));
    let body = json!({"api_key": key.secret(), "rotation_grace_period": 600, "ttl": 300});
    world.write(ROLE, body).await.unwrap();
    let (entry, value) = (ROLE.to_owned(), b"{".to_vec());
    world
        .storage
        .put(Entry { key: entry, value })
        .await
        .unwrap();
    let told = world.told("teardown", json!({})).await;
    assert!(world.lives(&key.hash));
    assert_ne!(told["left_alive"], json!({}), "{told:?}");
}

/// A store whose answer was a failure takes effect after the next one of the same entry, as is handled for
/// roles (`context/unsure.rs`).
#[tokio::test]
async fn a_teardown_that_was_cancelled_does_not_come_back() {
    let world = World::with_role().await;
    world.cut_off_openrouter();
    let told = world.told("teardown", json!({})).await;
    assert_eq!(told["state"], "running");
    world.node().storage.late_when_putting("runs/teardown");
    world.time.set(world.after(30));
    world.quiet().await;
    world.openrouter.faults().clear();
    let cancelled = world.node().delete("teardown", Value::Null).await;
    assert_eq!(cancelled.unwrap().unwrap().data["state"], "cancelled");
    world.node().storage.commit_what_is_late().await;
    world.pass(900).await;
    assert_eq!(world.run("teardown").await["state"], "cancelled");
    let before = world.key_hash("app").await;
    world.restart().await;
    world.pass(60).await;
    assert!(world.lives(&before), "the next node tears the mount down");
}

/// The server rejects `teardown` without sudo, but does not know `teardown/`.
#[tokio::test]
async fn a_teardown_is_not_cancelled_by_a_path_that_is_not_root_protected() {
    let world = World::with_role().await;
    world.told("teardown", json!({})).await;
    let answer = world.delete("teardown/", Value::Null).await;
    assert!(answer.is_err(), "{answer:?}");
}

fn adopting(world: &World, secret: &str) -> tokio::task::JoinHandle<crate::harness::Answer> {
    let node = world.node();
    let body = json!({"api_key": secret, "rotation_grace_period": 600, "ttl": 300});
    tokio::spawn(async move { node.write(ROLE, body).await })
}

/// The adoption has passed every check when the teardown is ordered. Its role is stored after that.
#[tokio::test]
async fn a_teardown_waits_for_an_adoption_under_way_which_is_then_refused() {
    let world = World::connected().await;
    let key = world
        .openrouter
        .account()
        .create_key(NewKey::named("chatbot"));
    let held = world.node().storage.hold_when_putting(ROLE);
    let adoption = adopting(&world, key.secret());
    held.has_come.cancelled().await;
    let told = world.told(PATH, json!({})).await;
    assert_eq!(told["state"], "running");
    held.let_go.cancel();
    let refusal = adoption.await.unwrap().unwrap_err().to_string();
    assert!(refusal.contains("torn down"), "{refusal}");
    world.pass(120).await;
    let run = world.run(PATH).await;
    assert_eq!(run["state"], "finished");
    assert_eq!(run["left_alive"], json!({}));
    assert!(world.role("app").await.is_none());
    assert!(world.lives(&key.hash), "it was never the mount's");
}

#[tokio::test]
async fn a_teardown_ends_a_key_whose_adoption_was_stored_after_it_began() {
    for crashes in [true, false] {
        let world = World::connected().await;
        let key = world
            .openrouter
            .account()
            .create_key(NewKey::named("chatbot"));
        if crashes {
            let held = world.node().storage.hold_when_putting(ROLE);
            let adoption = adopting(&world, key.secret());
            held.has_come.cancelled().await;
            world.told(PATH, json!({})).await;
            world.effects.die_at("after put roles/app");
            held.let_go.cancel();
            world.effects.crash().await;
            adoption.abort();
            world.restart().await;
        } else {
            world.node().storage.late_when_putting(ROLE);
            adopting(&world, key.secret()).await.unwrap().unwrap_err();
            let told = world.told(PATH, json!({})).await;
            assert_eq!(told["state"], "running");
            world.node().storage.commit_what_is_late().await;
        }
        world.pass(600).await;
        let run = world.run(PATH).await;
        assert_eq!(run["state"], "finished");
        assert_eq!((world.living(), &run["left_alive"]), (vec![], &json!({})));
    }
}

/// The role is stored, but the server's cache still says that it is not.
#[tokio::test]
async fn a_teardown_is_not_over_while_it_is_uncertain_whether_a_listed_role_is_stored() {
    let world = World::connected().await;
    let account = world.openrouter.account();
    let key = account.create_key(NewKey::named("chatbot"));
    world.node().storage.unheard_when_putting(ROLE);
    adopting(&world, key.secret()).await.unwrap().unwrap_err();
    let told = world.told(PATH, json!({})).await;
    assert_eq!(told["state"], "running");
    world.pass(1_200).await;
    let run = world.run(PATH).await;
    assert_eq!(run["state"], "finished");
    let is_named = run["left_alive"].get(&key.hash).is_some();
    let is_stored = world.storage.keys().contains(&ROLE.to_owned());
    assert!(!is_stored || is_named || !world.lives(&key.hash), "{run:?}");
}

/// The comparison began before the teardown, and sees its result.
#[tokio::test]
async fn what_a_teardown_ends_is_not_reported_by_a_comparison_under_way() {
    for cancels in [false, true] {
        let world = World::with_role().await;
        let manual = json!({"disable_automated_rotation": true});
        world.write(ROLE, manual).await.unwrap();
        world.quiet().await;
        let listing = Fault::held().on("GET", "/keys");
        world.openrouter.faults().add(listing);
        world.time.set(world.after(3_600));
        world.holding(1).await;
        let told = world.told(PATH, json!({})).await;
        assert_eq!(told["roles_done"], 1, "{told:?}");
        if cancels {
            world.delete(PATH, Value::Null).await.unwrap();
        }
        world.openrouter.faults().clear();
        world.pass(60).await;
        if !cancels {
            world.delete(PATH, Value::Null).await.unwrap();
        }
        assert_eq!(world.living(), [""; 0]);
        let role = world.role("app").await.unwrap();
        assert_eq!(role["drift"], json!([]), "cancelled first: {cancels}");
        let reason = world.key("app").await.unwrap_err().to_string();
        assert!(reason.contains("teardown"), "{reason}");
    }
}
