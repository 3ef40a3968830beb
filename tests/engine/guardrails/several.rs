//! A change of guardrail that takes several requests: what happens between them, and when some of them fail.

use openrouter_simulator::{Fault, NewGuardrail};
use serde_json::{Value, json};

use super::{ASSIGN, guardrail, guardrail_of, with_guarded_role};
use crate::harness::{Harm, ROLE, ROTATE, World};

/// Requests to assign keys to this guardrail fail.
fn is_down(world: &World, guardrail: &str) {
    let path = format!("/guardrails/{guardrail}/assignments/keys");
    let fault = Fault::status(503).on("POST", &path).forever();
    world.openrouter.faults().add(fault);
}

/// The role `app` with a superseded key that was left behind in the default workspace, where it is still to be
/// assigned to its guardrail, and a current key in another one, which has the guardrails `there` and `stricter`.
async fn with_a_key_left_behind() -> World {
    let (world, strict) = with_guarded_role().await;
    let account = world.openrouter.account();
    let team = account.add_named_workspace("Team", "team").unwrap();
    for name in ["there", "stricter"] {
        guardrail_of(&world, name, &team);
    }
    guardrail(&world, "other");
    is_down(&world, "*");
    let node = world.node();
    let unclear = json!({"guardrail": "other"});
    node.write(ROLE, unclear).await.unwrap();
    let moved = json!({"workspace": "team", "guardrail": "there"});
    node.write(ROLE, moved).await.unwrap();
    world.openrouter.faults().clear();
    is_down(&world, &strict);
    node.write(ROTATE, Value::Null).await.unwrap();
    world
}

/// Between two requests another leader may have been elected, who may have changed the guardrail.
#[tokio::test]
async fn a_change_proves_again_that_the_node_leads_before_each_further_guardrail_of_a_shared_key() {
    let world = with_a_key_left_behind().await;
    is_down(&world, "*");
    world.quiet().await;
    world.effects.record(Harm::Crash, None);
    let change = json!({"guardrail": "stricter"});
    world.node().write(ROLE, change).await.unwrap();
    let effects = world.effects.stop();
    let calls = effects
        .iter()
        .filter_map(|effect| effect.strip_prefix("before "))
        .filter(|call| *call == "put roles/app" || call.starts_with("POST"))
        .filter_map(|call| call.split(' ').next());
    let calls: Vec<&str> = calls.collect();
    // The change itself, which is the proof for the first request; the proof for the second; the failure.
    assert_eq!(calls, ["put", "POST", "put", "POST", "put"]);
}

/// The management key is now that of another account. Nobody there knows the current key, which may work in its
/// own. That the other key was refused is certain only if the list of assignments shows it.
#[tokio::test]
async fn a_change_is_undone_for_an_unseen_current_key_if_it_is_certain_that_no_other_key_was_assigned()
 {
    for is_certain in [true, false] {
        let (world, strict) = with_guarded_role().await;
        world.write(ROTATE, Value::Null).await.unwrap();
        let elsewhere = world.openrouter.add_account();
        let other = elsewhere.add_guardrail(NewGuardrail::named("other"));
        let replaced = json!({"management_key": elsewhere.add_management_key(), "force": true});
        world.write("config", replaced).await.unwrap();
        let faults = world.openrouter.faults();
        // Both keys, and then the superseded one alone.
        faults.add(Fault::status(400).on("POST", ASSIGN).times(2));
        if !is_certain {
            faults.add(Fault::status(500).on("GET", ASSIGN));
        }
        let change = json!({"guardrail": "other"});
        let written = world.node().write(ROLE, change).await;
        let said = match written {
            Ok(answer) => answer.unwrap().warnings.remove(0),
            Err(refusal) => refusal.to_string(),
        };
        assert!(said.contains("does not see it"), "{said}");
        assert_eq!(said.contains("the engine retries"), !is_certain, "{said}");
        let role = world.role("app").await.unwrap();
        let expected = if is_certain { strict } else { other };
        assert_eq!(role["guardrail_id"], expected, "{is_certain}");
    }
}
