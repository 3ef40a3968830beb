//! Names in a role are looked up when they are written, pinned, and returned by reads as they were written.

use openrouter_simulator::{Fault, GuardrailChanges, MemberRole, NewGuardrail};
use serde_json::{Value, json};

use super::{all_held_to, guarded, guardrail};
use crate::harness::{CI, ROLE, ROTATE, World, role};

/// The error of a write of the role `ci`, which creates no key.
async fn refusal(world: &World, body: Value) -> String {
    let mut ci = json!({"credential_type": "dynamic"});
    let fields = body.as_object().unwrap().clone();
    ci.as_object_mut().unwrap().extend(fields);
    let refusal = world.write(CI, ci).await.unwrap_err().to_string();
    assert!(world.role("ci").await.is_none());
    refusal
}

#[tokio::test]
async fn a_guardrail_that_cannot_hold_the_keys_is_refused_with_the_reason() {
    let world = World::connected().await;
    let account = world.openrouter.account();
    let elsewhere = account.add_named_workspace("Team", "team").unwrap();
    let there = account.add_guardrail(NewGuardrail {
        workspace_id: Some(elsewhere.clone()),
        ..NewGuardrail::named("there")
    });
    guardrail(&world, "strict");
    guardrail(&world, "twice");
    guardrail(&world, "twice");
    let default = account.workspace(&account.default_workspace()).unwrap();
    let default = default.default_guardrail_id();
    let unknown = "0f8fad5b-d9cb-469f-a165-70867728950e";
    for (body, reason) in [
        (json!({"guardrail": unknown}), "there is no guardrail"),
        (
            json!({"guardrail": "Strict"}),
            "no guardrail named \"Strict\"",
        ),
        (
            json!({"guardrail": "twice"}),
            "more than one guardrail named",
        ),
        (json!({"guardrail": "there"}), "no guardrail named"),
        (json!({"guardrail": there}), "belongs to another workspace"),
        (
            json!({"guardrail": "strict", "workspace": "team"}),
            "no guardrail named",
        ),
        (json!({"guardrail": default}), "there is no guardrail"),
    ] {
        let refusal = refusal(&world, body.clone()).await;
        assert!(refusal.contains(reason), "{body}: {refusal}");
    }
    // OpenRouter creates it when it is written.
    account
        .change_guardrail(&default, Default::default())
        .unwrap();
    let refused = refusal(&world, json!({"guardrail": default})).await;
    assert!(refused.contains("is the default guardrail of"), "{refused}");
    let refused = refusal(&world, json!({"guardrail": "x", "connection": "none"})).await;
    assert!(refused.contains("no connection \"none\""), "{refused}");
}

#[tokio::test]
async fn a_guardrail_from_before_there_were_workspaces_takes_every_key() {
    let world = World::connected().await;
    let account = world.openrouter.account();
    account.add_named_workspace("Team", "team").unwrap();
    let old = account.add_guardrail(NewGuardrail {
        unscoped: true,
        ..NewGuardrail::named("old")
    });
    let mut body = guarded(&old);
    body["workspace"] = json!("team");
    world.write(ROLE, body).await.unwrap();
    world.key("app").await.unwrap();
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_guardrail_is_read_back_as_it_was_written_and_found_again_when_it_was_made_anew() {
    let world = World::connected().await;
    let strict = guardrail(&world, "strict");
    for written in ["strict", &strict, &strict.to_uppercase()] {
        world.write(ROLE, guarded(written)).await.unwrap();
        let role = world.role("app").await.unwrap();
        let shown = (&role["guardrail"], &role["guardrail_id"]);
        assert_eq!(shown, (&json!(written), &json!(strict)));
    }
    world
        .write(ROLE, json!({"guardrail": "strict"}))
        .await
        .unwrap();
    world
        .openrouter
        .account()
        .delete_guardrail(&strict)
        .unwrap();
    let anew = guardrail(&world, "strict");
    let answer = world.write(ROLE, json!({"guardrail": "strict"})).await;
    let warnings = answer.unwrap().unwrap().warnings;
    let said = format!("was {strict}, which is gone; it is now {anew}");
    assert!(
        warnings.iter().any(|one| one.contains(&said)),
        "{warnings:?}"
    );
    let role = world.role("app").await.unwrap();
    assert_eq!(role["guardrail_id"], anew);
    world.key("app").await.unwrap();
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_guardrails_name_that_changed_hands_moves_no_key() {
    for path in [ROLE, CI] {
        let world = World::connected().await;
        let account = world.openrouter.account();
        let strict = guardrail(&world, "strict");
        let mut body = match path {
            ROLE => role(),
            _ => json!({"credential_type": "dynamic"}),
        };
        body["guardrail"] = json!("strict");
        world.write(path, body.clone()).await.unwrap();
        if path == CI {
            world.lease().await.unwrap();
        }
        let renamed = GuardrailChanges {
            name: Some("lenient".to_owned()),
            ..GuardrailChanges::default()
        };
        account.change_guardrail(&strict, renamed).unwrap();
        let taken = guardrail(&world, "strict");
        let refusal = world.write(path, body).await.unwrap_err().to_string();
        assert!(
            refusal.contains(&format!("is now guardrail {taken}, not {strict}")),
            "{refusal}"
        );
        assert_eq!(all_held_to(&world), [Some(strict.clone())]);
        world
            .write(path, json!({"description": "new"}))
            .await
            .unwrap();
        world
            .write(path, json!({"guardrail": taken}))
            .await
            .unwrap();
        assert_eq!(all_held_to(&world), [Some(taken)]);
    }
}

#[tokio::test]
async fn what_is_written_again_as_it_was_needs_no_openrouter() {
    let world = World::connected().await;
    let account = world.openrouter.account();
    account.add_named_workspace("Team", "team").unwrap();
    guardrail(&world, "strict");
    let mut body = role();
    body["workspace"] = json!("default");
    let default = account.default_workspace();
    account
        .rename_workspace(&default, "Default", "default")
        .unwrap();
    body["guardrail"] = json!("strict");
    world.write(ROLE, body.clone()).await.unwrap();
    let down = Fault::status(503).on_anything().forever();
    world.openrouter.faults().add(down);
    body["description"] = json!("new");
    world.write(ROLE, body.clone()).await.unwrap();
    assert_eq!(world.role("app").await.unwrap()["description"], "new");
    for other in [json!({"guardrail": "other"}), json!({"workspace": "team"})] {
        let refusal = world.write(ROLE, other).await.unwrap_err().to_string();
        assert!(refusal.contains("cannot be looked up"), "{refusal}");
    }
}

#[tokio::test]
async fn a_workspace_is_pinned_and_read_back_as_it_was_written() {
    let world = World::connected().await;
    let account = world.openrouter.account();
    let team = account.add_named_workspace("Team", "team").unwrap();
    for written in ["team", &team] {
        let mut body = role();
        body["workspace"] = json!(written);
        world.write(ROLE, body.clone()).await.unwrap();
        let read = world.role("app").await.unwrap();
        let shown = (&read["workspace"], &read["workspace_id"]);
        assert_eq!(shown, (&json!(written), &json!(team)));
        // Writing back what was read changes nothing.
        body["workspace_id"] = json!(team);
        assert!(world.write(ROLE, body).await.unwrap().is_none());
    }
    assert_eq!(account.keys()[0].workspace_id, team);
    world
        .write(ROLE, json!({"workspace": "team"}))
        .await
        .unwrap();
    account.rename_workspace(&team, "Team", "old-team").unwrap();
    let taken = account.add_named_workspace("New", "team").unwrap();
    let refusal = world.write(ROLE, json!({"workspace": "team"})).await;
    let refusal = refusal.unwrap_err().to_string();
    assert!(
        refusal.contains(&taken) && refusal.contains(&team),
        "{refusal}"
    );
    world.write(ROTATE, Value::Null).await.unwrap();
    assert_eq!(
        account.keys()[1].workspace_id,
        team,
        "it stays where it was pinned"
    );
    let cleared = world.write(ROLE, json!({"workspace": ""})).await.unwrap();
    assert!(cleared.unwrap().warnings[0].contains("workspace cannot be changed"));
    let read = world.role("app").await.unwrap();
    assert_eq!(
        (&read["workspace"], &read["workspace_id"]),
        (&json!(null), &json!(null))
    );
}

#[tokio::test]
async fn a_workspace_that_is_not_there_is_refused() {
    let world = World::connected().await;
    let team = world.openrouter.account().add_workspace();
    let unknown = "0f8fad5b-d9cb-469f-a165-70867728950e";
    for (body, reason) in [
        (
            json!({"workspace": "nobody"}),
            "has no workspace \"nobody\"",
        ),
        (json!({"workspace": unknown}), "has no workspace"),
        (json!({"workspace": "No Slug"}), "slug of 1 to 50"),
        (
            json!({"workspace": team, "workspace_id": unknown}),
            "only one of workspace",
        ),
        (
            json!({"workspace": "workspace-2", "workspace_id": unknown}),
            "is now workspace",
        ),
    ] {
        let refusal = refusal(&world, body.clone()).await;
        assert!(refusal.contains(reason), "{body}: {refusal}");
    }
}

#[tokio::test]
async fn the_creator_of_keys_is_a_member_where_there_are_members() {
    let world = World::connected().await;
    let account = world.openrouter.account();
    let mut body = role();
    body["creator_user_id"] = json!("user_somebody");
    let warnings = world
        .write(ROLE, body.clone())
        .await
        .unwrap()
        .unwrap()
        .warnings;
    assert!(
        warnings
            .iter()
            .any(|one| one.contains("not belong to an organization")),
        "{warnings:?}"
    );
    account.become_organization();
    let member = account
        .add_member("a@example.com", MemberRole::Member)
        .unwrap();
    let refusal = refusal(&world, json!({"creator_user_id": "user_nobody"})).await;
    assert!(
        refusal.contains("has no member \"user_nobody\""),
        "{refusal}"
    );
    let answer = world
        .write(ROLE, json!({"creator_user_id": member}))
        .await
        .unwrap();
    assert!(answer.unwrap().warnings[0].contains("creator_user_id cannot be changed"));
    world.write(ROTATE, Value::Null).await.unwrap();
    let key = account.keys().pop().unwrap();
    assert_eq!(key.creator_user_id, Some(member.clone()));
    assert_eq!(world.role("app").await.unwrap()["creator_user_id"], member);
    world
        .write(ROLE, json!({"creator_user_id": null}))
        .await
        .unwrap();
    world.write(ROTATE, Value::Null).await.unwrap();
    assert_eq!(account.keys().pop().unwrap().creator_user_id, None);
}
