//! An existing key becomes a role's first key: what is taken from it, what is rejected, and that it is
//! treated like any other key afterwards.

mod reports;

use openrouter_simulator::{Fault, KeyChanges, LimitReset, NewGuardrail, NewKey};
use serde_json::{Value, json};

use crate::harness::{CI, ROLE, ROTATE, World};

/// A key made by hand.
fn by_hand(world: &World) -> openrouter_simulator::Key {
    let account = world.openrouter.account();
    account.create_key(NewKey {
        limit: Some(20.0),
        limit_reset: Some(LimitReset::Weekly),
        include_byok_in_limit: true,
        workspace_id: Some(account.add_workspace()),
        ..NewKey::named("chatbot")
    })
}

async fn adopt(world: &World, secret: &str, more: Value) -> Result<Vec<String>, String> {
    let mut body = json!({"api_key": secret, "rotation_grace_period": 600, "ttl": 300});
    let (Value::Object(all), Value::Object(more)) = (&mut body, more) else {
        panic!("objects")
    };
    all.extend(more);
    let written = world.write(ROLE, body).await;
    let answer = written.map_err(|reason| reason.to_string())?;
    Ok(answer.map_or_else(Vec::new, |answer| answer.warnings))
}

#[tokio::test]
async fn an_applications_key_becomes_the_roles_and_nothing_about_it_changes() {
    let world = World::connected().await;
    let key = by_hand(&world);
    world.openrouter.requests().reset();
    let warnings = adopt(&world, key.secret(), json!({})).await.unwrap();
    assert!(warnings[0].contains("rotate-role/app"), "{warnings:?}");
    let of_guardrail = |said: &String| said.contains("guardrail");
    assert!(!warnings.iter().any(of_guardrail), "{warnings:?}");
    let requests = world.openrouter.requests().counts();
    // The key itself, the key by its hash, and its assignment.
    let proof = [
        "GET /key",
        "GET /keys/*",
        "GET /guardrails/assignments/keys",
    ];
    assert_eq!(
        requests.values().sum::<usize>(),
        proof.len(),
        "{requests:?}"
    );
    let served = world.key("app").await.unwrap();
    assert_eq!(served["api_key"], key.secret());
    assert_eq!(served["key_name"], "chatbot");
    let role = world.role("app").await.unwrap();
    assert_eq!(role["limit"], 20);
    assert_eq!(role["limit_reset"], "weekly");
    assert_eq!(role["include_byok_in_limit"], true);
    assert_eq!(role["workspace_id"], key.workspace_id.as_str());
    assert!(role.get("api_key").is_none());
    assert_eq!(world.orders(), 0);

    // From then on it is rotated like any other key.
    world.write(ROTATE, json!({})).await.unwrap();
    let next = world.key("app").await.unwrap();
    let next = world.seen(next["key_hash"].as_str().unwrap());
    assert_eq!(
        (next.limit, next.workspace_id),
        (Some(20.0), key.workspace_id)
    );
    world.pass(600).await;
    assert!(world.seen(&key.hash).deleted_at.is_some());
    assert_eq!(world.violations().await, [""; 0]);
    assert_eq!(world.broken_promises(), [""; 0]);
}

#[tokio::test]
async fn the_guardrail_of_the_key_becomes_the_roles_unless_the_write_names_another() {
    for named in [None, Some("other")] {
        let world = World::connected().await;
        let account = world.openrouter.account();
        let [strict, other] = ["strict", "other"].map(|name| {
            let guardrail = NewGuardrail::named(name);
            account.add_guardrail(guardrail)
        });
        let key = account.create_key(NewKey::named("chatbot"));
        account.assign_guardrail(&key.hash, &strict).unwrap();
        let more = named.map_or(json!({}), |name| json!({"guardrail": name}));
        let warnings = adopt(&world, key.secret(), more).await.unwrap();
        let stays = |said: &String| said.contains("keep their guardrail");
        assert!(!warnings.iter().any(stays), "{warnings:?}");
        let wanted = if named.is_some() { &other } else { &strict };
        assert_eq!(account.guardrail_of(&key.hash).as_ref(), Some(wanted));
        let role = world.role("app").await.unwrap();
        assert_eq!(role["guardrail"], named.unwrap_or(&strict), "{named:?}");
        assert_eq!(role["guardrail_id"], **wanted, "{named:?}");
        assert_eq!(role["current_key"]["guardrail_id"], **wanted);
        world.key("app").await.unwrap();
        world.write(ROTATE, json!({})).await.unwrap();
        let next = world.key("app").await.unwrap();
        let next = next["key_hash"].as_str().unwrap();
        assert_eq!(account.guardrail_of(next).as_ref(), Some(wanted));
        assert_eq!(world.violations().await, [""; 0]);
    }
}

/// OpenRouter identifies the default workspace of a key by its UUID; a write does not name it.
#[tokio::test]
async fn a_key_of_the_default_workspace_is_there_for_a_write_that_clears_it() {
    for cleared in [
        json!({"workspace": ""}),
        json!({"workspace": null}),
        json!({"workspace_id": ""}),
    ] {
        let world = World::connected().await;
        let account = world.openrouter.account();
        let [strict, other] =
            ["strict", "other"].map(|name| account.add_guardrail(NewGuardrail::named(name)));
        let key = account.create_key(NewKey::named("chatbot"));
        let mut body = cleared;
        body["guardrail"] = json!("strict");
        let warnings = adopt(&world, key.secret(), body).await.unwrap();
        let waits = |said: &String| said.contains("next rotation");
        assert!(!warnings.iter().any(waits), "{warnings:?}");
        assert_eq!(account.guardrail_of(&key.hash), Some(strict));
        assert_eq!(world.key("app").await.unwrap()["api_key"], key.secret());
        let role = world.role("app").await.unwrap();
        assert_eq!(role["workspace_id"], json!(null));
        // The same applies to everything that follows.
        let change = json!({"guardrail": "other"});
        world.write(ROLE, change).await.unwrap();
        assert_eq!(account.guardrail_of(&key.hash), Some(other));
        assert_eq!(world.violations().await, [""; 0]);
        world.pass(3_600).await;
        let drift = &world.role("app").await.unwrap()["drift"];
        assert_eq!(*drift, json!([]), "it was not moved");
    }
}

/// The guardrail of another workspace does not accept the key, so the key keeps its own, with a warning.
#[tokio::test]
async fn a_key_that_is_elsewhere_keeps_its_guardrail_until_the_next_rotation() {
    for (workspace, had) in [("team", true), ("team", false), ("", true), ("", false)] {
        let world = World::connected().await;
        let account = world.openrouter.account();
        let team = account.add_named_workspace("Team", "team").unwrap();
        let of = |name: &str, workspace_id: Option<&String>| {
            account.add_guardrail(NewGuardrail {
                workspace_id: workspace_id.cloned(),
                ..NewGuardrail::named(name)
            })
        };
        // The key's workspace, and the role's.
        let (here, there) = match workspace {
            "" => (Some(account.add_workspace()), None),
            _ => (None, Some(team)),
        };
        let (own, wanted) = (of("own", here.as_ref()), of("wanted", there.as_ref()));
        let key = account.create_key(NewKey {
            workspace_id: here,
            ..NewKey::named("chatbot")
        });
        // So that a key shows which workspace is the default one.
        account.create_key(NewKey::named("another"));
        if had {
            account.assign_guardrail(&key.hash, &own).unwrap();
        }
        let body = json!({"guardrail": "wanted", "workspace": workspace});
        let warnings = adopt(&world, key.secret(), body).await.unwrap();
        let has = had.then_some(own);
        let said = format!("(guardrail: {})", has.as_deref().unwrap_or("none"));
        let waits = |one: &&String| one.starts_with("workspace, guardrail cannot be changed");
        let warning = warnings.iter().find(waits);
        assert!(
            warning.is_some_and(|one| one.contains(&said)),
            "{warnings:?}"
        );
        assert_eq!(account.guardrail_of(&key.hash), has);
        let role = world.role("app").await.unwrap();
        assert_eq!(role["current_key"]["guardrail_id"], json!(has));
        world.key("app").await.unwrap();
        if has.is_some() {
            // It has its former guardrail.
            account.unassign_guardrail(&key.hash);
            world.pass(3_700).await;
            assert_eq!(account.guardrail_of(&key.hash), has);
        }
        world.write(ROTATE, json!({})).await.unwrap();
        let next = world.key_hash("app").await;
        assert_eq!(account.guardrail_of(&next), Some(wanted));
        assert_eq!(world.violations().await, [""; 0]);
    }
}

#[tokio::test]
async fn clearing_the_guardrail_leaves_it_on_the_key_with_a_warning() {
    let world = World::connected().await;
    let account = world.openrouter.account();
    let strict = account.add_guardrail(NewGuardrail::named("strict"));
    let key = account.create_key(NewKey::named("chatbot"));
    account.assign_guardrail(&key.hash, &strict).unwrap();
    let body = json!({"guardrail": ""});
    let warnings = adopt(&world, key.secret(), body).await.unwrap();
    let stays = |said: &String| said.contains("keep their guardrail");
    assert!(warnings.iter().any(stays), "{warnings:?}");
    let role = world.role("app").await.unwrap();
    assert_eq!(role["guardrail"], json!(null));
    assert_eq!(role["current_key"]["guardrail_id"], json!(strict));
    assert_eq!(account.guardrail_of(&key.hash), Some(strict));
}

#[tokio::test]
async fn a_key_that_may_not_be_held_to_the_guardrail_is_not_adopted() {
    let world = World::connected().await;
    let account = world.openrouter.account();
    account.add_guardrail(NewGuardrail::named("strict"));
    let key = account.create_key(NewKey::named("chatbot"));
    let assign = "/guardrails/*/assignments/keys";
    let faults = world.openrouter.faults();
    faults.add(Fault::status(403).on("POST", assign));
    let body = json!({"guardrail": "strict"});
    adopt(&world, key.secret(), body.clone()).await.unwrap_err();
    assert!(world.role("app").await.is_none());
    // An unclear outcome is retried, and the key is not handed out before.
    faults.add(Fault::LostReply.on("POST", assign));
    let warnings = adopt(&world, key.secret(), body).await.unwrap();
    assert!(
        warnings.iter().any(|w| w.contains("the engine retries")),
        "{warnings:?}"
    );
    world.key("app").await.unwrap_err();
    world.pass(60).await;
    world.key("app").await.unwrap();
    assert!(account.key(&key.hash).unwrap().deleted_at.is_none());
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn the_bounds_of_the_connection_apply_to_an_adopted_key() {
    let world = World::connected().await;
    let bounds = json!({"max_limit": 10});
    world.write("config", bounds).await.unwrap();
    let key = by_hand(&world);
    let reason = adopt(&world, key.secret(), json!({})).await.unwrap_err();
    assert!(reason.contains("max_limit"), "{reason}");
    assert!(world.role("app").await.is_none());
    let less = json!({"limit": 7});
    adopt(&world, key.secret(), less).await.unwrap();
    let limit = world.seen(&key.hash).limit;
    assert_eq!(limit, Some(7.0));
}

#[tokio::test]
async fn a_key_that_lives_longer_than_the_connection_allows_is_not_adopted() {
    let world = World::connected().await;
    let bounds = json!({"max_key_lifetime": 10_000_000});
    world.write("config", bounds).await.unwrap();
    let key = by_hand(&world);
    let account = world.openrouter.account();
    for (expiry, reason) in [
        (None, "never expires"),
        (Some(world.after(10_000_001)), "expires at"),
    ] {
        account.set_expiry(&key.hash, expiry).unwrap();
        let refusal = adopt(&world, key.secret(), json!({})).await.unwrap_err();
        assert!(refusal.contains(reason), "{refusal}");
        assert!(refusal.contains("max_key_lifetime"), "{refusal}");
        assert!(world.role("app").await.is_none());
    }
    let expiry = Some(world.after(10_000_000));
    account.set_expiry(&key.hash, expiry).unwrap();
    adopt(&world, key.secret(), json!({})).await.unwrap();
    assert_eq!(world.key("app").await.unwrap()["api_key"], key.secret());
}

#[tokio::test]
async fn what_the_write_names_is_applied_to_the_key() {
    let world = World::connected().await;
    let key = by_hand(&world);
    let other = world.openrouter.account().add_workspace();
    adopt(
        &world,
        key.secret(),
        json!({"limit": 3, "workspace_id": other}),
    )
    .await
    .unwrap();
    let adopted = world.seen(&key.hash);
    assert_eq!(adopted.limit, Some(3.0));
    assert_eq!(adopted.limit_reset, Some(LimitReset::Weekly));
    assert_eq!(
        adopted.workspace_id, key.workspace_id,
        "that takes effect with the next key"
    );
    world.write(ROTATE, json!({})).await.unwrap();
    let next = world.key("app").await.unwrap();
    let next = world.seen(next["key_hash"].as_str().unwrap());
    assert_eq!(next.workspace_id, other);
}

#[tokio::test]
async fn limits_that_openrouter_refuses_leave_the_key_as_it_was_and_no_role() {
    let world = World::connected().await;
    let key = by_hand(&world);
    world
        .openrouter
        .faults()
        .add(Fault::status(400).on("PATCH", "/keys/*"));
    adopt(&world, key.secret(), json!({"limit": 3}))
        .await
        .unwrap_err();
    assert!(world.role("app").await.is_none());
    assert_eq!(world.seen(&key.hash).limit, Some(20.0));

    world
        .openrouter
        .faults()
        .add(Fault::status(500).on("PATCH", "/keys/*"));
    let warnings = adopt(&world, key.secret(), json!({"limit": 3}))
        .await
        .unwrap();
    assert!(
        warnings.iter().any(|w| w.contains("the engine retries")),
        "{warnings:?}"
    );
    world.pass(10).await;
    assert_eq!(world.violations().await, [""; 0]);
    assert_eq!(world.seen(&key.hash).limit, Some(3.0));
}

/// A guardrail is never removed from a key, so a change made before a refusal stays, and is reported.
#[tokio::test]
async fn a_refusal_after_the_key_was_given_its_guardrail_says_that_it_has_it() {
    for bound in [json!({"limit": 3}), json!({"budget": 3})] {
        let world = World::connected().await;
        let account = world.openrouter.account();
        let strict = account.add_guardrail(NewGuardrail::named("strict"));
        let key = account.create_key(NewKey::named("chatbot"));
        let refused = Fault::status(400).on("PATCH", "/keys/*").forever();
        world.openrouter.faults().add(refused);
        let mut body = bound.clone();
        body["guardrail"] = json!("strict");
        let refusal = adopt(&world, key.secret(), body).await.unwrap_err();
        assert!(
            refusal.contains(&format!("it is now assigned to guardrail {strict}")),
            "{refusal}"
        );
        assert!(world.role("app").await.is_none());
        assert_eq!(account.guardrail_of(&key.hash).as_ref(), Some(&strict));
        // The key already has it, so nothing is changed.
        let mut again = bound;
        again["guardrail"] = json!("strict");
        let refusal = adopt(&world, key.secret(), again).await.unwrap_err();
        assert!(!refusal.contains("by now"), "{refusal}");
    }
}

#[tokio::test]
async fn what_cannot_be_adopted_is_refused_with_the_reason_and_left_alone() {
    let world = World::connected().await;
    let account = world.openrouter.account();
    let (disabled, expired, deleted) = (by_hand(&world), by_hand(&world), by_hand(&world));
    account.set_disabled(&disabled.hash, true).unwrap();
    account
        .set_expiry(&expired.hash, Some(world.time.now()))
        .unwrap();
    account.delete_key(&deleted.hash).unwrap();
    let elsewhere = world
        .openrouter
        .add_account()
        .create_key(NewKey::named("theirs"));
    let management_key = account.add_management_key();
    let mark = "vault-0000000000000000ffffffffffffffff";
    let foreign = account.create_key(NewKey::named(format!("app 2026-11-20 {mark}")));
    let odd = account.create_key(NewKey::named("odd"));
    let zero = KeyChanges {
        limit: Some(Some(-1.0)),
        ..KeyChanges::default()
    };
    account.change_key(&odd.hash, &zero).unwrap();
    for (secret, reason) in [
        ("", "api_key must be"),
        ("two words", "api_key must be"),
        ("sk-or-v1-unknown", "api_key does not work"),
        (disabled.secret(), "api_key does not work"),
        (expired.secret(), "api_key does not work"),
        (deleted.secret(), "api_key does not work"),
        (elsewhere.secret(), "belongs to another account"),
        (management_key.as_str(), "this is a management key"),
        (foreign.secret(), "another mount of this engine"),
        (odd.secret(), "which a role cannot ask for"),
    ] {
        let refusal = adopt(&world, secret, json!({})).await.unwrap_err();
        assert!(refusal.contains(reason), "{refusal}");
        assert!(secret.len() < 10 || !refusal.contains(secret), "{refusal}");
        assert!(world.role("app").await.is_none());
    }
    adopt(&world, foreign.secret(), json!({"force": true}))
        .await
        .unwrap();
    assert_eq!(world.key("app").await.unwrap()["api_key"], foreign.secret());
}

#[tokio::test]
async fn a_key_has_one_role_or_one_lease() {
    let world = World::connected().await;
    let key = by_hand(&world);
    // Two roles at once: only one of them gets the key.
    let node = world.node();
    let body = || json!({"api_key": key.secret()});
    let (first, second) = tokio::join!(
        node.write("roles/first", body()),
        node.write("roles/second", body())
    );
    assert!(first.is_ok() != second.is_ok());
    let refusal = first.err().or(second.err()).unwrap().to_string();
    assert!(refusal.contains("api_key is a key of role"), "{refusal}");

    let dynamic = json!({"credential_type": "dynamic"});
    world.write(CI, dynamic).await.unwrap();
    let leased = world.lease().await.unwrap();
    let refusal = adopt(&world, leased["api_key"].as_str().unwrap(), json!({}))
        .await
        .unwrap_err();
    assert!(refusal.contains("the key of a lease of role"), "{refusal}");
    let refusal = world.write(CI, body()).await.unwrap_err().to_string();
    assert!(
        refusal.contains("api_key applies only to rotating roles"),
        "{refusal}"
    );
}

#[tokio::test]
async fn an_update_takes_the_key_that_was_adopted_and_no_other() {
    let world = World::connected().await;
    let (key, other) = (by_hand(&world), by_hand(&world));
    adopt(&world, key.secret(), json!({})).await.unwrap();
    let refusal = adopt(&world, other.secret(), json!({})).await.unwrap_err();
    assert!(refusal.contains("only when a role is created"), "{refusal}");
    // As Terraform does: it writes the same again, whatever has been rotated since.
    adopt(&world, key.secret(), json!({"limit": 4}))
        .await
        .unwrap();
    world.write(ROTATE, json!({})).await.unwrap();
    world.pass(600).await;
    adopt(&world, key.secret(), json!({"limit": 6}))
        .await
        .unwrap();
    let role = world.role("app").await.unwrap();
    assert_eq!(
        (&role["limit"], &role["current_key"]["version"]),
        (&json!(6), &json!(2))
    );
}

#[tokio::test]
async fn forgetting_the_role_returns_the_key_to_the_application() {
    let world = World::connected().await;
    let key = by_hand(&world);
    adopt(&world, key.secret(), json!({})).await.unwrap();
    world
        .write("forget-role/app", json!({"revoke_keys": false}))
        .await
        .unwrap();
    world.pass(7_200).await;
    assert!(world.seen(&key.hash).deleted_at.is_none());
    // And back again.
    adopt(&world, key.secret(), json!({})).await.unwrap();
    assert_eq!(world.key("app").await.unwrap()["api_key"], key.secret());
}

#[tokio::test]
async fn an_expiry_that_comes_too_soon_causes_a_warning() {
    let world = World::connected().await;
    let key = by_hand(&world);
    let account = world.openrouter.account();
    account
        .set_expiry(&key.hash, Some(world.after(86_400)))
        .unwrap();
    let warnings = adopt(&world, key.secret(), json!({})).await.unwrap();
    assert!(
        warnings
            .iter()
            .any(|w| w.contains("the current key expires at")),
        "{warnings:?}"
    );
    let soon = by_hand(&world);
    account
        .set_expiry(&soon.hash, Some(world.after(400)))
        .unwrap();
    let body = json!({"api_key": soon.secret(), "rotation_grace_period": 600, "ttl": 300});
    let warnings = world
        .write("roles/soon", body)
        .await
        .unwrap()
        .unwrap()
        .warnings;
    assert!(
        warnings.iter().any(|w| w.contains("replaced at once")),
        "{warnings:?}"
    );
    world.quiet().await;
    assert_eq!(world.key("soon").await.unwrap()["key_version"], 2);
}

#[tokio::test]
async fn a_role_that_the_connection_does_not_allow_adopts_nothing_and_asks_nothing() {
    let world = World::connected().await;
    let key = by_hand(&world);
    let bounded = json!({
        "management_key": world.openrouter.management_key(), "api_url": world.gate_url(),
        "allowed_roles": "team-a-*",
    });
    world.write("config", bounded).await.unwrap();
    world.openrouter.requests().reset();
    let refusal = adopt(&world, key.secret(), json!({})).await.unwrap_err();
    assert!(refusal.contains("does not allow role"), "{refusal}");
    let asked = world.openrouter.requests().all();
    assert!(asked.is_empty(), "{asked:?}");
}

/// The other mount would recognize its mark, treat the key as a lost one, and delete it.
#[tokio::test]
async fn a_key_that_is_taken_from_another_mount_loses_its_mark_before_it_is_adopted() {
    let world = World::connected().await;
    let account = world.openrouter.account();
    let marked = "app 2026-11-20 vault-0123456789abcdef0123456789abcdef";
    let key = account.create_key(NewKey::named(marked));
    let force = json!({"force": true});
    let refused = Fault::ResetBeforeEffect.on("PATCH", "/keys/*").forever();
    world.openrouter.faults().add(refused);
    let refusal = adopt(&world, key.secret(), force.clone()).await;
    let refusal = refusal.unwrap_err();
    assert!(refusal.contains("the other mount's mark"), "{refusal}");
    assert!(world.role("app").await.is_none());
    world.openrouter.faults().clear();
    adopt(&world, key.secret(), force).await.unwrap();
    let unmarked = "app 2026-11-20";
    assert_eq!(account.key(&key.hash).unwrap().name, unmarked);
    let role = world.role("app").await.unwrap();
    assert_eq!(role["current_key"]["name"], unmarked);
}
