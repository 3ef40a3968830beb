//! Removing stray keys of this mount: what is listed, what is removed, and what is never removed.

use openrouter_simulator::{Fault, KeyChanges, NewKey};
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::{Entry, Storage};

use super::with_keys;
use crate::harness::{FORGET, World, role};

const PATH: &str = "tidy/default";

impl World {
    async fn listed(&self) -> Vec<String> {
        let told = self.told(PATH, json!({})).await;
        assert_eq!(
            (&told["state"], &told["dry_run"]),
            (&json!("finished"), &json!(true))
        );
        assert_eq!(told["refusal"], Value::Null, "{told:?}");
        let keys = told["keys"].as_array().unwrap().iter();
        keys.map(|key| key["key_hash"].as_str().unwrap().to_owned())
            .collect()
    }

    async fn removed(&self) -> serde_json::Map<String, Value> {
        let told = self.told(PATH, json!({"dry_run": false})).await;
        assert_eq!(
            (&told["state"], &told["dry_run"]),
            (&json!("finished"), &json!(false))
        );
        told
    }

    /// A key with the name that this mount would give it for the same role, with a nonce that it never used.
    fn with_the_mark_of(&self, hash: &str) -> String {
        let account = self.openrouter.account();
        let name = account.key(hash).unwrap().name;
        let (beginning, _) = name.split_at(name.len() - 16);
        let name = format!("{beginning}0123456789abcdef");
        account.create_key(NewKey::named(&name)).hash
    }
}

async fn forget_another(world: &World) -> String {
    world.write("roles/app", role()).await.unwrap();
    let hash = world.current().await;
    let body = json!({"revoke_keys": false});
    world.write(FORGET, body).await.unwrap();
    hash
}

#[tokio::test]
async fn unowned_keys_are_listed_and_then_removed_and_nothing_else_is_touched() {
    let (world, mut keys) = with_keys().await;
    let stray = keys.remove("stray").unwrap();
    assert_eq!(world.listed().await, [&*stray]);
    assert!(world.lives(&stray), "it was only listed");
    let told = world.removed().await;
    assert_eq!((&told["removed"], &told["kept"]), (&json!(1), &json!({})));
    assert!(!world.lives(&stray));
    for (kind, hash) in &keys {
        assert!(world.lives(hash), "{kind}");
    }
    assert_eq!(world.run(PATH).await, told);
    assert_eq!(world.listed().await, [""; 0]);
}

#[tokio::test]
async fn nothing_is_removed_that_was_not_listed_before() {
    let world = World::with_role().await;
    let refusal = |answer: crate::harness::Answer| answer.unwrap_err().to_string();
    let reason = refusal(world.write(PATH, json!({"dry_run": false})).await);
    assert!(reason.contains("write with dry_run=true"), "{reason}");
    let first = world.stray().await;
    assert_eq!(world.listed().await, [&*first]);
    let second = forget_another(&world).await;
    assert_eq!(world.removed().await["removed"], 1);
    assert!(!world.lives(&first) && world.lives(&second));
    let reason = refusal(world.write(PATH, json!({"dry_run": false})).await);
    assert!(reason.contains("none since the last"), "{reason}");
}

#[tokio::test]
async fn what_lost_its_mark_since_it_was_listed_is_kept_and_what_is_gone_is_no_loss() {
    let world = World::with_role().await;
    let (renamed, gone) = (world.stray().await, forget_another(&world).await);
    assert_eq!(world.listed().await.len(), 2);
    let account = world.openrouter.account();
    let changes = KeyChanges {
        name: Some("somebody took it".to_owned()),
        ..KeyChanges::default()
    };
    account.change_key(&renamed, &changes).unwrap();
    account.delete_key(&gone).unwrap();
    let told = world.removed().await;
    assert_eq!(told["removed"], 1);
    assert_eq!(
        told["kept"],
        json!({renamed.clone(): "it is not managed by this engine"})
    );
    assert!(world.lives(&renamed));
}

#[tokio::test]
async fn a_key_with_the_mark_of_a_rotating_role_is_not_for_tidying_up() {
    let world = World::with_role().await;
    let current = world.current().await;
    let forgotten = world.with_the_mark_of(&current);
    assert_eq!(world.listed().await, [""; 0]);
    // The comparison with OpenRouter adds it to its role.
    world.restart().await;
    world.pass(60).await;
    let role = world.role("app").await.unwrap();
    let superseded = role["superseded_keys"].to_string();
    assert!(superseded.contains(&forgotten), "{superseded}");
}

#[tokio::test]
async fn while_another_copy_of_the_storage_seems_to_be_at_work_nothing_is_listed() {
    let world = World::with_role().await;
    let stray = world.stray().await;
    world.pass(300).await;
    world.with_the_mark_of(&stray);
    // The next comparison with OpenRouter notices it, although no role uses the connection any more.
    world.pass(3_700).await;
    let answer = world.write(PATH, json!({})).await.unwrap().unwrap();
    assert_eq!(answer.data["keys"], json!([]));
    assert!(
        answer.data["refusal"]
            .as_str()
            .unwrap()
            .contains("another copy")
    );
    assert!(answer.warnings[0].contains("another copy"));
    let removal = world.write(PATH, json!({"dry_run": false})).await;
    removal.unwrap_err();
    assert!(world.lives(&stray));
}

#[tokio::test]
async fn the_listing_itself_notices_another_copy_where_no_role_has_keys() {
    let world = World::with_role().await;
    let stray = world.stray().await;
    world.pass(300).await;
    let account = world.openrouter.account();
    let elsewhere = account.add_workspace();
    let theirs = world.with_the_mark_of(&stray);
    let moved = KeyChanges {
        workspace_id: Some(elsewhere),
        ..KeyChanges::default()
    };
    account.change_key(&theirs, &moved).unwrap();
    let told = world.told(PATH, json!({})).await;
    assert_eq!(told["keys"], json!([]));
    let refusal = told["refusal"].as_str().unwrap();
    assert!(
        refusal.contains("another copy") && refusal.contains(&theirs),
        "{refusal}"
    );
    let removal = world.write(PATH, json!({"dry_run": false})).await;
    removal.unwrap_err();
    account.delete_key(&theirs).unwrap();
    assert_eq!(world.listed().await, [&*stray]);
}

#[tokio::test]
async fn what_was_listed_is_kept_if_another_copy_is_noticed_before_it_is_removed() {
    let world = World::with_role().await;
    let stray = world.stray().await;
    assert_eq!(world.listed().await, [&*stray]);
    world.pass(300).await;
    world.with_the_mark_of(&stray);
    world.pass(3_700).await;
    let told = world.removed().await;
    assert_eq!(told["removed"], 0);
    let why = told["kept"][&stray].as_str().unwrap();
    assert!(why.contains("another copy"), "{why}");
    assert!(world.lives(&stray));
}

#[tokio::test]
async fn while_a_role_is_unreadable_nothing_is_listed_or_removed() {
    let world = World::with_role().await;
    let stray = world.stray().await;
    assert_eq!(world.listed().await.len(), 1);
    let (key, value) = ("roles/broken".to_owned(), b"{".to_vec());
    world.storage.put(Entry { key, value }).await.unwrap();
    let told = world.removed().await;
    assert_eq!(told["removed"], 0);
    let why = told["kept"][&stray].as_str().unwrap();
    assert!(why.contains("unreadable, including broken"), "{why}");
    let told = world.told(PATH, json!({})).await;
    assert!(told["refusal"].as_str().unwrap().contains("broken"));
    assert!(world.lives(&stray));
}

#[tokio::test]
async fn while_openrouter_is_away_both_go_on_by_themselves() {
    let world = World::with_role().await;
    let stray = world.stray().await;
    world.cut_off_openrouter();
    let told = world.told(PATH, json!({})).await;
    assert_eq!(told["state"], "running");
    let other = world.write(PATH, json!({"dry_run": false})).await;
    assert!(
        other
            .unwrap_err()
            .to_string()
            .contains("wait until it has finished")
    );
    world.openrouter.faults().clear();
    world.pass(120).await;
    assert_eq!(world.run(PATH).await["keys"].as_array().unwrap().len(), 1);
    world.cut_off_openrouter();
    let told = world.told(PATH, json!({"dry_run": false})).await;
    assert_eq!(told["state"], "running");
    assert!(told["failed"][&stray].is_string());
    world.openrouter.faults().clear();
    world.pass(120).await;
    assert_eq!(world.run(PATH).await["removed"], 1);
    assert!(!world.lives(&stray));
}

#[tokio::test]
async fn a_key_that_openrouter_refuses_to_delete_is_named_and_the_run_is_over() {
    let world = World::with_role().await;
    let stray = world.stray().await;
    world.listed().await;
    let forbidden = Fault::status(403).on("DELETE", "/keys/*").forever();
    world.openrouter.faults().add(forbidden);
    let told = world.removed().await;
    assert_eq!(told["removed"], 0);
    assert!(told["failed"][&stray].as_str().unwrap().contains("403"));
}

#[tokio::test]
async fn a_node_that_may_not_write_any_more_removes_nothing() {
    let world = World::with_role().await;
    let stray = world.stray().await;
    world.listed().await;
    world
        .openrouter
        .faults()
        .add(Fault::ResetBeforeEffect.on_anything().forever());
    world.told(PATH, json!({"dry_run": false})).await;
    world.node().storage.make_read_only();
    world.openrouter.faults().clear();
    for _ in 0..5 {
        world.time.set(world.after(60));
        world.quiet().await;
    }
    assert!(world.lives(&stray));
}

#[tokio::test]
async fn a_removal_does_not_read_every_role_for_each_key() {
    let world = World::with_role().await;
    let stray = world.stray().await;
    for _ in 0..29 {
        world.with_the_mark_of(&stray);
    }
    world.write("roles/app", role()).await.unwrap();
    world.copy_role(500).await;
    assert_eq!(world.listed().await.len(), 30);
    let before = world.node().storage.calls();
    assert_eq!(world.removed().await["removed"], 30);
    let calls = world.node().storage.calls() - before;
    assert!(calls < 500 + 30 * 10, "{calls} storage calls");
}

/// Most of the keys that a comparison has listed may be gone when it checks them.
#[tokio::test]
async fn a_copy_is_noticed_although_a_hundred_newer_keys_of_it_are_gone_by_now() {
    let world = World::with_role().await;
    let stray = world.stray().await;
    world.pass(300).await;
    let living = world.with_the_mark_of(&stray);
    let gone: Vec<_> = (0..100).map(|_| world.with_the_mark_of(&stray)).collect();
    let lookup = Fault::held().on("GET", "/keys/*");
    world.openrouter.faults().add(lookup);
    world.time.set(world.after(3_700));
    world.holding(1).await;
    for hash in &gone {
        world.openrouter.account().delete_key(hash).unwrap();
    }
    world.openrouter.faults().clear();
    world.quiet().await;
    let status = world.read("status").await.unwrap().unwrap().data;
    let copies = status["two_copies"].to_string();
    assert!(copies.contains(&living), "{copies}");
}
