//! Roles and connections that are forgotten, with requests that hang and callers that are gone.

use std::time::Duration;

use openrouter_simulator::Fault;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use vault_plugin_secrets_openrouter::logical::Operation;

use crate::harness::{CI, FORGET, Log, ROLE, ROTATE, World, hashes};

/// A role with three keys.
async fn with_three_keys() -> (World, Vec<String>) {
    let world = World::with_role().await;
    for _ in 0..2 {
        world.write(ROTATE, Value::Null).await.unwrap();
    }
    let known = hashes(&world.role("app").await.unwrap());
    assert_eq!(known.len(), 3);
    (world, known)
}

#[tokio::test]
async fn revocations_that_hang_keep_no_other_waiting() {
    let (world, known) = with_three_keys().await;
    let faults = world.openrouter.faults();
    for hash in &known[..2] {
        faults.add(Fault::held().on("DELETE", &format!("/keys/{hash}")));
    }
    let node = world.node();
    let the_third_dies = async {
        while faults.held() < 2 || world.openrouter.account().keys().len() > 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let dies = async {
        let patience = Duration::from_secs(20);
        let died = tokio::time::timeout(patience, the_third_dies).await;
        faults.clear();
        died
    };
    let (answer, died) = tokio::join!(node.write(FORGET, json!({})), dies);
    died.expect("while two hang the third is dead");
    let answer = answer.unwrap().unwrap();
    assert_eq!(answer.data["keys_left_behind"], json!([]));
    assert!(world.openrouter.account().keys().is_empty());
}

#[tokio::test]
async fn keys_whose_revocation_hangs_are_in_the_log_although_nobody_waits_for_the_answer() {
    let (world, known) = with_three_keys().await;
    let body = json!({"request_timeout": 1});
    world.write("config", body).await.unwrap();
    let warnings = Log::of_warnings();
    let faults = world.openrouter.faults();
    for hash in &known[..2] {
        faults.add(Fault::held().on("DELETE", &format!("/keys/{hash}")));
    }
    let gone = CancellationToken::new();
    let node = world.node();
    let forgotten = node.call_for(gone.clone(), Operation::Update, FORGET, json!({}));
    let gives_up = async {
        world.holding(1).await;
        gone.cancel();
    };
    let (answer, ()) = tokio::join!(forgotten, gives_up);
    let left = answer.unwrap().unwrap().data["keys_left_behind"].clone();
    let mut expected = known[..2].to_vec();
    expected.sort();
    assert_eq!(left, json!(expected));
    for hash in &expected {
        assert!(warnings.has(&["role=app", hash]), "{hash} is in the log");
    }
    assert!(!warnings.has(&["left behind", &known[2]]));
    assert!(world.role("app").await.is_none());
}

#[tokio::test]
async fn a_role_may_be_forgotten_without_any_request() {
    let (world, known) = with_three_keys().await;
    let warnings = Log::of_warnings();
    world.openrouter.requests().reset();
    let body = json!({"revoke_keys": false});
    let answer = world.write(FORGET, body).await.unwrap().unwrap();
    let mut expected = known;
    expected.sort();
    assert_eq!(answer.data["keys_left_behind"], json!(expected));
    assert_eq!(world.openrouter.requests().all(), []);
    assert_eq!(world.openrouter.account().keys().len(), 3);
    assert!(expected.iter().all(|hash| warnings.has(&[hash])));
    assert!(world.role("app").await.is_none());
}

/// Whoever gives a key back relies on it from then on, whether or not the answer has come.
#[tokio::test]
async fn a_process_that_dies_before_the_role_is_removed_leaves_the_keys_alone() {
    let (world, known) = with_three_keys().await;
    let body = json!({"revoke_keys": false});
    world
        .die_during("before delete roles/app", world.write(FORGET, body.clone()))
        .await;
    world.restart().await;
    world.pass(60).await;
    for hash in &known {
        assert_eq!(world.seen(hash).deleted_at, None, "{hash}");
    }
    assert_eq!(world.version().await, 3, "the role is as it was");
    world.write(FORGET, body).await.unwrap();
    assert!(world.role("app").await.is_none());
    assert_eq!(world.openrouter.account().keys().len(), 3);
}

/// The process dies while revocations hang: the role still exists, and the next process continues.
#[tokio::test]
async fn a_role_that_was_not_forgotten_to_the_end_is_deleted_by_the_next_process() {
    let (world, _) = with_three_keys().await;
    let faults = world.openrouter.faults();
    faults.add(Fault::held().on("DELETE", "/keys/*").forever());
    let node = world.node();
    tokio::select! {
        _ = node.write(FORGET, json!({})) => panic!("it hangs"),
        () = world.holding(3) => {}
    }
    node.life.end();
    faults.clear();
    world.restart().await;
    world.pass(60).await;
    assert!(world.role("app").await.is_none());
    assert!(world.openrouter.account().keys().is_empty());
}

#[tokio::test]
async fn a_connection_that_is_forgotten_names_the_keys_that_need_it() {
    let (world, known) = with_three_keys().await;
    let role = json!({"credential_type": "dynamic"});
    world.write(CI, role).await.unwrap();
    let leased = world.lease().await.unwrap();
    let warnings = Log::of_warnings();
    let answer = world.write("forget-connection/default", json!({})).await;
    let mut expected = known;
    expected.push(leased["key_hash"].as_str().unwrap().to_owned());
    expected.sort();
    let answer = answer.unwrap().unwrap();
    assert_eq!(answer.data["keys_left_behind"], json!(expected));
    assert!(expected.iter().all(|hash| warnings.has(&[hash])));
    assert!(world.read("config").await.unwrap().is_none());
}

/// `force` is not a parameter of a deletion, since no policy could deny it.
#[tokio::test]
async fn a_deletion_takes_no_force() {
    let world = World::with_role().await;
    for path in [ROLE, "config"] {
        let answer = world.delete(path, json!({"force": true})).await;
        let refusal = answer.unwrap_err().to_string();
        assert!(refusal.contains("force"), "{path}: {refusal}");
    }
    assert_eq!(world.version().await, 1);
}
