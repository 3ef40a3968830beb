//! A change of guardrail with an unclear outcome is remembered until it is proved, whatever is written in the
//! meantime. A rejected change is reverted only if nothing was done.

use openrouter_simulator::{Fault, NewGuardrail, Rule};
use serde_json::{Value, json};

use super::leases::with_guarded_leases;
use super::{ASSIGN, all_held_to, assignments, faults, guardrail, with_guarded_role};
use crate::harness::{CI, ROLE, ROTATE, World};

const LIST: &str = "/guardrails/*/assignments/keys";

/// A write during which no time passes, so that nothing is retried automatically.
async fn at_once(world: &World, path: &str, body: Value) -> Result<Vec<String>, String> {
    let answer = world.node().write(path, body).await;
    let answer = answer.map_err(|reason| reason.to_string())?;
    Ok(answer.map_or_else(Vec::new, |answer| answer.warnings))
}

/// Another guardrail is written and assigned, and the reply is lost.
async fn change_without_reply(world: &World, path: &str) -> String {
    let other = guardrail(world, "other");
    let lost = Fault::LostReply.on("POST", ASSIGN);
    world.openrouter.faults().add(lost);
    let warnings = at_once(world, path, json!({"guardrail": "other"})).await;
    let warnings = warnings.unwrap();
    assert!(warnings[0].contains("the engine retries"), "{warnings:?}");
    other
}

/// The guardrail of a workspace `team`.
fn guardrail_of_a_team(world: &World) -> String {
    let account = world.openrouter.account();
    let team = account.add_named_workspace("Team", "team").unwrap();
    account.add_guardrail(NewGuardrail {
        workspace_id: Some(team),
        ..NewGuardrail::named("there")
    })
}

async fn shown(world: &World, role: &str) -> Value {
    world.role(role).await.unwrap()["guardrail_id"].clone()
}

#[tokio::test]
async fn the_guardrail_before_an_unclear_change_is_assigned_again_when_it_is_written_back() {
    for fails_over in [false, true] {
        let (world, strict) = with_guarded_role().await;
        world.write(ROTATE, Value::Null).await.unwrap();
        let other = change_without_reply(&world, ROLE).await;
        assert_eq!(all_held_to(&world), vec![Some(other); 2]);
        if fails_over {
            world.restart().await;
            world.quiet().await;
        }
        let warnings = at_once(&world, ROLE, json!({"guardrail": "strict"})).await;
        assert_eq!(warnings.unwrap(), [""; 0]);
        assert_eq!(all_held_to(&world), vec![Some(strict); 2], "{fails_over}");
        world.key("app").await.unwrap();
        assert_eq!(world.violations().await, [""; 0]);
        assert_eq!(world.complaints().await, [""; 0]);
    }
}

#[tokio::test]
async fn the_same_holds_for_keys_under_leases() {
    for fails_over in [false, true] {
        let (world, strict) = with_guarded_leases().await;
        let other = change_without_reply(&world, CI).await;
        assert_eq!(all_held_to(&world), vec![Some(other); 2]);
        if fails_over {
            world.restart().await;
            world.quiet().await;
        }
        let warnings = at_once(&world, CI, json!({"guardrail": "strict"})).await;
        assert_eq!(warnings.unwrap(), [""; 0]);
        assert_eq!(all_held_to(&world), vec![Some(strict); 2], "{fails_over}");
        let read = world.read(CI).await.unwrap().unwrap();
        assert_eq!(read.warnings, [""; 0]);
        world.openrouter.requests().reset();
        world.restart().await;
        world.pass(60).await;
        let assigned = world.openrouter.requests().to("POST", ASSIGN);
        assert_eq!(assigned.len(), 0, "what is proved is proved");
    }
}

#[tokio::test]
async fn keys_that_stay_behind_in_another_workspace_are_assigned_what_they_are_shown_with() {
    for (path, is_leased) in [(ROLE, false), (CI, true)] {
        let (world, strict) = match is_leased {
            false => with_guarded_role().await,
            true => with_guarded_leases().await,
        };
        change_without_reply(&world, path).await;
        guardrail_of_a_team(&world);
        let body = json!({"workspace": "team", "guardrail": "there"});
        at_once(&world, path, body).await.unwrap();
        world.pass(60).await;
        let held = all_held_to(&world);
        assert!(
            held.iter().all(|held| *held == Some(strict.clone())),
            "{held:?}"
        );
        assert_eq!(world.violations().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_limit_that_is_refused_does_not_hide_that_the_guardrail_is_unclear() {
    let (world, strict) = with_guarded_role().await;
    guardrail(&world, "other");
    let faults = world.openrouter.faults();
    faults.add(Fault::LostReply.on("POST", ASSIGN));
    faults.add(Fault::status(400).on("PATCH", "/keys/*"));
    let body = json!({"guardrail": "other", "limit": 3});
    at_once(&world, ROLE, body).await.unwrap_err();
    assert_eq!(shown(&world, "app").await, strict);
    world.pass(60).await;
    assert_eq!(all_held_to(&world), [Some(strict)]);
    assert_eq!(world.role("app").await.unwrap()["limit"], 5);
    world.key("app").await.unwrap();
    assert_eq!(world.complaints().await, [""; 0]);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_limit_that_is_refused_takes_the_guardrail_back_that_was_applied_before_it() {
    let (world, strict) = with_guarded_role().await;
    guardrail(&world, "other");
    let rule = Fault::status(400).on("PATCH", "/keys/*");
    world.openrouter.faults().add(rule);
    let body = json!({"guardrail": "other", "limit": 3});
    at_once(&world, ROLE, body).await.unwrap_err();
    world.quiet().await;
    assert_eq!(shown(&world, "app").await, strict);
    assert_eq!(all_held_to(&world), [Some(strict)]);
    world.key("app").await.unwrap();
    assert_eq!(world.violations().await, [""; 0]);
}

/// Refusals that are definite, but come after keys were assigned.
fn late_refusals() -> Vec<Vec<Rule>> {
    let list = |fault: Fault| vec![fault.on("GET", LIST)];
    let uncounted = Fault::edited_reply(json!({"assigned_count": 0}));
    vec![
        list(Fault::status(401)),
        list(Fault::status(403)),
        list(Fault::rate_limited(1)),
        vec![
            uncounted.on("POST", ASSIGN),
            Fault::status(403).on("GET", "/keys/*"),
        ],
    ]
}

#[tokio::test]
async fn a_rejection_after_keys_were_assigned_does_not_undo_the_change() {
    for refusal in late_refusals() {
        for path in [ROLE, CI] {
            let (world, strict) = match path {
                ROLE => with_guarded_role().await,
                _ => with_guarded_leases().await,
            };
            let other = guardrail(&world, "other");
            let said = format!("{path}, {refusal:?}");
            for rule in refusal.clone() {
                world.openrouter.faults().add(rule);
            }
            let warnings = at_once(&world, path, json!({"guardrail": "other"})).await;
            let warnings = warnings.expect(&said);
            assert!(
                warnings[0].contains("the engine retries"),
                "{said}: {warnings:?}"
            );
            let role = path.trim_start_matches("roles/");
            assert_eq!(shown(&world, role).await, other, "{said}");
            world.pass(60).await;
            let held = all_held_to(&world);
            assert!(!held.contains(&Some(strict)), "{said}");
            assert_eq!(world.violations().await, [""; 0], "{said}");
        }
    }
}

#[tokio::test]
async fn keys_that_moved_before_the_current_one_was_found_to_be_gone_stay_where_they_are() {
    let (world, _) = with_guarded_role().await;
    world.write(ROTATE, Value::Null).await.unwrap();
    let other = guardrail(&world, "other");
    let current = world.role("app").await.unwrap()["current_key"]["hash"].clone();
    let account = world.openrouter.account();
    account.delete_key(current.as_str().unwrap()).unwrap();
    let warnings = at_once(&world, ROLE, json!({"guardrail": "other"})).await;
    let warnings = warnings.unwrap();
    assert!(warnings[0].contains("does not see it"), "{warnings:?}");
    assert_eq!(shown(&world, "app").await, other);
    assert_eq!(all_held_to(&world), [Some(other.clone())]);
    world.restart().await;
    world.pass(60).await;
    assert_eq!(all_held_to(&world), vec![Some(other); 2]);
}

#[tokio::test]
async fn a_refusal_of_the_second_hundred_does_not_undo_the_first() {
    for path in [ROLE, CI] {
        let (world, _) = match path {
            ROLE => with_guarded_role().await,
            _ => with_guarded_leases().await,
        };
        while world.openrouter.account().count() < 101 {
            match path {
                ROLE => drop(at_once(&world, ROTATE, Value::Null).await.unwrap()),
                _ => drop(world.lease().await.unwrap()),
            }
        }
        let other = guardrail(&world, "other");
        let refused = Fault::status(400).on("POST", ASSIGN).nth(2);
        world.openrouter.faults().add(refused);
        let warnings = at_once(&world, path, json!({"guardrail": "other"})).await;
        let warnings = warnings.expect(path);
        assert!(
            warnings[0].contains("the engine retries"),
            "{path}: {warnings:?}"
        );
        let moved = |world: &World| {
            let held = all_held_to(world).into_iter();
            held.filter(|held| *held == Some(other.clone())).count()
        };
        assert_eq!(moved(&world), 100, "{path}");
        world.pass(60).await;
        assert_eq!(moved(&world), 101, "{path}");
    }
}

#[tokio::test]
async fn whatever_goes_wrong_with_a_change_its_keys_are_held_to_what_the_role_shows() {
    for fault in faults() {
        for path in [ROLE, CI] {
            let (world, strict) = match path {
                ROLE => with_guarded_role().await,
                _ => with_guarded_leases().await,
            };
            let (role, name) = (
                path.trim_start_matches("roles/"),
                format!("{path}, {fault:?}"),
            );
            let other = guardrail(&world, "other");
            world.openrouter.faults().add(fault.clone().forever());
            let written = at_once(&world, path, json!({"guardrail": "other"})).await;
            let expected = match &written {
                Ok(warnings) => {
                    let is_pending = warnings
                        .iter()
                        .any(|one| one.contains("the engine retries"));
                    // An answer that counts two keys is correct if there are two.
                    let is_done = all_held_to(&world) == vec![Some(other.clone()); 2];
                    assert!(is_pending || is_done, "{name}: {warnings:?}");
                    &other
                }
                Err(_) => &strict,
            };
            assert_eq!(shown(&world, role).await, *expected, "{name}");
            // Everything that is handed out in the meantime is judged.
            world.pass(60).await;
            world.openrouter.faults().clear();
            world.pass(7_200).await;
            if path == ROLE {
                world.key("app").await.expect(&name);
            }
            for held in all_held_to(&world) {
                assert_eq!(held.as_ref(), Some(expected), "{name}");
            }
            let unguarded = world.violations().await.into_iter();
            let unguarded: Vec<_> = unguarded.filter(|one| one.contains("held to")).collect();
            assert_eq!(unguarded, [""; 0], "{name}");
        }
    }
}

#[tokio::test]
async fn a_pending_change_is_tried_at_once_when_it_is_written_again() {
    for path in [ROLE, CI] {
        let (world, _) = match path {
            ROLE => with_guarded_role().await,
            _ => with_guarded_leases().await,
        };
        let other = guardrail(&world, "other");
        let down = Fault::status(500).on("POST", ASSIGN).times(2);
        world.openrouter.faults().add(down);
        for is_pending in [true, true, false] {
            let warnings = at_once(&world, path, json!({"guardrail": "other"})).await;
            let warnings = warnings.unwrap();
            let said = warnings
                .iter()
                .any(|one| one.contains("the engine retries"));
            assert_eq!(said, is_pending, "{path}: {warnings:?}");
        }
        for held in all_held_to(&world) {
            assert_eq!(held.as_ref(), Some(&other), "{path}");
        }
        let again = at_once(&world, path, json!({"guardrail": "other"})).await;
        assert_eq!(again.unwrap(), [""; 0]);
        assert_eq!(assignments(&world), {
            let made = if path == ROLE { 1 } else { 2 };
            made + 3
        });
    }
}

#[tokio::test]
async fn a_dynamic_role_that_is_deleted_while_a_change_is_pending_says_so_and_remembers_nothing() {
    let (world, strict) = with_guarded_leases().await;
    change_without_reply(&world, CI).await;
    let warnings = world
        .delete(CI, Value::Null)
        .await
        .unwrap()
        .unwrap()
        .warnings;
    assert!(
        warnings[1].contains("2 of their keys did not have the role's last guardrail yet"),
        "{warnings:?}"
    );
    // A role with that name takes over its leases, and must not trust their records.
    let anew = json!({"credential_type": "dynamic", "guardrail": "strict"});
    world.write(CI, anew).await.unwrap();
    world.quiet().await;
    assert_eq!(all_held_to(&world), vec![Some(strict); 2]);
}
