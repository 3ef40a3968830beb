//! The bounds of a connection apply to all roles, whoever writes them, and whatever storage contains.

#[cfg(test)]
mod meanwhile;

use openrouter_simulator::{Fault, NewGuardrail};
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::{Entry, Storage};

use crate::harness::{CI, Harm, ROLE, ROTATE, World, role};

async fn refused(world: &World, path: &str, body: Value) -> String {
    let refusal = world.write(path, body).await;
    refusal.unwrap_err().to_string()
}

#[tokio::test]
async fn a_role_that_is_beyond_the_bounds_is_refused_however_it_is_written() {
    let world = World::connected().await;
    let bounds = json!({
        "allowed_roles": "app,team-*", "max_limit": 5, "max_key_lifetime": "3h",
    });
    world.write("config", bounds).await.unwrap();
    let config = world.read("config").await.unwrap().unwrap().data;
    assert_eq!(config["allowed_roles"], json!(["app", "team-*"]));
    assert_eq!(
        (&config["max_limit"], &config["max_key_lifetime"]),
        (&json!(5), &json!(10_800))
    );

    let team = "roles/team-a";
    let dynamic = |fields: Value| {
        let mut body = json!({"credential_type": "dynamic", "limit": 1, "max_ttl": 3600});
        let fields = fields.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(fields);
        body
    };
    let mut unlimited = role();
    unlimited["limit"] = json!(null);
    let mut greedy = role();
    greedy["limit"] = json!(5.01);
    let mut old = role();
    old["key_max_lifetime"] = json!(0);
    for (path, body, reason) in [
        ("roles/other", role(), "does not allow role \"other\""),
        (ROLE, unlimited, "has no limit"),
        (ROLE, greedy, "has 5.01 US dollars"),
        (ROLE, old, "would never expire"),
        (team, dynamic(json!({"limit": 6})), "at most 5 US dollars"),
        (
            team,
            dynamic(json!({"max_ttl": "3h"})),
            "would live 11100 seconds",
        ),
        (CI, dynamic(json!({})), "its allowed_roles are app, team-*"),
    ] {
        let refusal = refused(&world, path, body).await;
        assert!(refusal.contains(reason), "{path}: {refusal}");
    }
    assert_eq!(world.orders(), 0, "nothing was made");
    world.write(ROLE, role()).await.unwrap();
    world.write(team, dynamic(json!({}))).await.unwrap();
    for (path, body) in [
        (ROLE, json!({"limit": null, "limit_reset": null})),
        (ROLE, json!({"limit": 6})),
        (ROLE, json!({"rotation_period": "2h"})),
        (team, json!({"limit": ""})),
        (team, json!({"max_ttl": "3h"})),
    ] {
        refused(&world, path, body).await;
    }
    assert_eq!(world.openrouter.account().keys()[0].limit, Some(5.0));
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn bounds_that_roles_are_beyond_are_refused_and_name_them() {
    let world = World::with_role().await;
    world
        .write(CI, json!({"credential_type": "dynamic"}))
        .await
        .unwrap();
    let other = json!({
        "management_key": world.openrouter.management_key(), "api_url": world.gate_url(),
    });
    world.write("config/other", other).await.unwrap();
    let elsewhere = json!({"credential_type": "dynamic", "connection": "other"});
    world.write("roles/elsewhere", elsewhere).await.unwrap();
    for (bounds, beyond) in [
        (
            json!({"allowed_roles": ["app"]}),
            "1 roles that use the connection would be beyond its bounds: ci",
        ),
        (json!({"max_limit": 4}), "beyond its bounds: app, ci"),
        (json!({"max_limit": 5}), "beyond its bounds: ci"),
        (
            json!({"max_key_lifetime": 7_799}),
            "beyond its bounds: app, ci",
        ),
        (json!({"max_key_lifetime": 7_800}), "beyond its bounds: ci"),
    ] {
        let refusal = refused(&world, "config", bounds.clone()).await;
        assert!(refusal.contains(beyond), "{bounds}: {refusal}");
        assert!(!refusal.contains("elsewhere"), "{refusal}");
    }
    let config = world.read("config").await.unwrap().unwrap().data;
    assert_eq!(
        (&config["max_limit"], &config["allowed_roles"]),
        (&json!(null), &json!(["*"]))
    );
    world.delete(CI, json!({})).await.unwrap();
    let bounds = json!({"allowed_roles": "a*p", "max_limit": 5, "max_key_lifetime": 7_800});
    world.write("config", bounds).await.unwrap();
    let opened = json!({"allowed_roles": "*", "max_limit": "", "max_key_lifetime": null});
    world.write("config", opened).await.unwrap();
    world.write(ROLE, json!({"limit": null})).await.unwrap();
}

/// A restored snapshot, or a pending deletion, may have left a role that exceeds the bounds.
#[tokio::test]
async fn a_change_that_tightens_nothing_is_accepted_whatever_a_role_is_beyond() {
    let world = World::with_role().await;
    let app = world.storage.get(ROLE).await.unwrap().unwrap();
    world.write(ROLE, json!({"limit": 1})).await.unwrap();
    let bounds = json!({"allowed_roles": "app", "max_limit": 2, "max_key_lifetime": 7_800});
    world.write("config", bounds).await.unwrap();
    let mut restored = world.snapshot();
    let role = restored.iter_mut().find(|entry| entry.key == ROLE);
    role.unwrap().value = app;
    world.restore(restored).await;
    world.restart().await;
    for looser in [
        json!({"max_limit": 3}),
        json!({"allowed_roles": "app,ci"}),
        json!({"max_key_lifetime": 8_000}),
        // The role is within the bound that is tightened.
        json!({"max_key_lifetime": 7_800}),
        json!({"allowed_roles": "a*"}),
    ] {
        world.write("config", looser.clone()).await.unwrap();
    }
    let refusal = refused(&world, "config", json!({"max_limit": 2.5})).await;
    assert!(refusal.contains("has 5 US dollars"), "{refusal}");

    let fault = Fault::status(502).on("DELETE", "/keys/*").forever();
    world.openrouter.faults().add(fault);
    let node = world.node();
    node.delete(ROLE, json!({})).await.unwrap_err();
    let refusal = node.write("config", json!({"max_limit": 2})).await;
    let refusal = refusal.unwrap_err().to_string();
    assert!(refusal.contains("\"forget-role/app\""), "{refusal}");
    assert!(!refusal.contains("rotate-role"), "{refusal}");
    node.write("config", json!({"max_limit": 4})).await.unwrap();
}

#[tokio::test]
async fn bounds_that_make_no_sense_are_refused() {
    let world = World::connected().await;
    for (bounds, reason) in [
        (json!({"allowed_roles": ""}), "allowed_roles must name"),
        (json!({"allowed_roles": []}), "allowed_roles must name"),
        (json!({"allowed_roles": "a/b"}), "\"a/b\" is not valid"),
        (json!({"max_limit": 0}), "max_limit must be"),
        (json!({"max_key_lifetime": 0}), "max_key_lifetime must be"),
    ] {
        let refusal = refused(&world, "config", bounds).await;
        assert!(refusal.contains(reason), "{refusal}");
    }
}

#[tokio::test]
async fn no_key_beyond_the_bounds_is_made_even_for_a_role_that_storage_brought_back() {
    let world = World::with_role().await;
    let before = world.snapshot();
    world.write(ROLE, json!({"limit": 1})).await.unwrap();
    world
        .write("config", json!({"max_limit": 1}))
        .await
        .unwrap();
    // Only the roles of the snapshot are restored.
    let mut restored = world.snapshot();
    restored.retain(|entry| !entry.key.starts_with("roles/"));
    let roles = before
        .into_iter()
        .filter(|entry| entry.key.starts_with("roles/"));
    restored.extend(roles);
    world.restore(restored).await;
    world.restart().await;
    let refusal = refused(&world, ROTATE, Value::Null).await;
    assert!(refusal.contains("at most 1 US dollars"), "{refusal}");
    world.write(ROLE, json!({"limit": 1})).await.unwrap();
    world.write(ROTATE, Value::Null).await.unwrap();
}

#[tokio::test]
async fn a_key_lives_no_longer_than_its_connection_allows_whatever_its_role_asks_for() {
    let world = World::with_role().await;
    let asks_for_7800 = world.storage.get(ROLE).await.unwrap().unwrap();
    let shorter = json!({"rotation_period": 1_800});
    world.write(ROLE, shorter).await.unwrap();
    world.write(ROTATE, Value::Null).await.unwrap();
    let bounds = json!({"max_key_lifetime": 5_000});
    world.write("config", bounds).await.unwrap();
    // Only the roles of an older snapshot are restored.
    let mut restored = world.snapshot();
    let role = restored.iter_mut().find(|entry| entry.key == ROLE);
    role.unwrap().value = asks_for_7800;
    world.restore(restored).await;
    world.restart().await;
    world.write(ROTATE, Value::Null).await.unwrap();
    let keys = world.openrouter.account().all_keys().into_iter();
    let newest = keys.max_by_key(|key| key.created_at).unwrap();
    let lives = newest.expires_at.unwrap().duration_since(newest.created_at);
    assert_eq!(lives.as_secs(), 5_000);
}

#[tokio::test]
async fn bounds_that_only_a_living_key_exceeds_are_rejected_until_it_is_replaced() {
    let world = World::connected().await;
    let mut manual = role();
    manual["disable_automated_rotation"] = json!(true);
    world.write(ROLE, manual).await.unwrap();
    let expires = json!({"key_max_lifetime": 7_200});
    world.write(ROLE, expires).await.unwrap();
    let bounds = json!({"max_key_lifetime": 7_200});
    let refusal = refused(&world, "config", bounds.clone()).await;
    assert!(
        refusal.contains("app") && refusal.contains("would never expire"),
        "{refusal}"
    );
    assert!(refusal.contains("rotate-role/app"), "{refusal}");
    world.write(ROTATE, Value::Null).await.unwrap();
    world.write("config", bounds).await.unwrap();

    let down = Fault::status(500).on("PATCH", "/keys/*");
    world.openrouter.faults().add(down);
    let node = world.node();
    node.write(ROLE, json!({"limit": 3})).await.unwrap();
    let bounds = json!({"max_limit": 4});
    let refusal = node.write("config", bounds.clone()).await.unwrap_err();
    let refusal = refusal.to_string();
    assert!(refusal.contains("has 5 US dollars"), "{refusal}");
    // By then the limit is applied.
    world.pass(60).await;
    world.write("config", bounds).await.unwrap();
}

#[tokio::test]
async fn a_current_key_is_bound_by_the_connection_that_it_was_made_with() {
    let world = World::with_role().await;
    let other = json!({
        "management_key": world.openrouter.management_key(), "api_url": world.gate_url(),
    });
    world.write("config/other", other).await.unwrap();
    world
        .write(ROLE, json!({"connection": "other"}))
        .await
        .unwrap();
    let bounds = json!({"max_limit": 4});
    let refusal = refused(&world, "config", bounds.clone()).await;
    assert!(refusal.contains("its current key is beyond"), "{refusal}");
    world.write(ROTATE, Value::Null).await.unwrap();
    world.write("config", bounds).await.unwrap();
}

#[tokio::test]
async fn a_role_that_a_connection_does_not_allow_asks_nothing_with_its_management_key() {
    let world = World::connected().await;
    let account = world.openrouter.account();
    account.add_named_workspace("Team", "team").unwrap();
    account.add_guardrail(NewGuardrail::named("strict"));
    let other = json!({
        "management_key": world.openrouter.management_key(), "api_url": world.gate_url(),
        "allowed_roles": "team-a-*",
    });
    world.write("config/other", other).await.unwrap();
    for kind in ["rotating", "dynamic"] {
        let path = format!("roles/{kind}");
        world
            .write(&path, json!({"credential_type": kind}))
            .await
            .unwrap();
        for path in [path.as_str(), "roles/new"] {
            for asked in [
                json!({"workspace": "team"}),
                json!({"guardrail": "strict"}),
                json!({"creator_user_id": "user_one"}),
            ] {
                let mut body = json!({"credential_type": kind, "connection": "other"});
                let asked = asked.as_object().unwrap().clone();
                body.as_object_mut().unwrap().extend(asked);
                world.openrouter.requests().reset();
                let refusal = refused(&world, path, body.clone()).await;
                assert!(refusal.contains("does not allow role"), "{refusal}");
                let made = world.openrouter.requests().all();
                assert!(made.is_empty(), "{path} {body}: {made:?}");
            }
        }
    }
}

/// A change that brings a role within bounds, and is rejected after these were written, does not restore a
/// definition that exceeds them.
#[tokio::test]
async fn bounds_that_are_written_during_a_change_hold_when_that_is_refused() {
    for (path, before, change) in [
        (
            ROLE,
            json!({"guardrail": "strict", "rotation_period": 3_600, "rotation_grace_period": 600,
                   "ttl": 300, "key_max_lifetime": 7_200}),
            json!({"guardrail": "other", "key_max_lifetime": 7_200}),
        ),
        (
            CI,
            json!({"credential_type": "dynamic", "guardrail": "strict", "max_ttl": 9_000}),
            json!({"guardrail": "other", "max_ttl": 6_900}),
        ),
    ] {
        let world = World::connected().await;
        let account = world.openrouter.account();
        account.add_guardrail(NewGuardrail::named("strict"));
        let other = account.add_guardrail(NewGuardrail::named("other"));
        world.write(path, before).await.unwrap();
        if path == ROLE {
            let longer = json!({"key_max_lifetime": 9_000});
            world.write(path, longer).await.unwrap();
        } else {
            world.lease().await.unwrap();
        }
        let faults = world.openrouter.faults();
        faults.add(Fault::held().on("POST", "/guardrails/*/assignments/keys"));
        let (writes, binds) = (world.node(), world.node());
        let bound = async {
            world.holding(1).await;
            let bounds = json!({"max_key_lifetime": 7_200});
            let bound = binds.write("config", bounds).await;
            account.delete_guardrail(&other).unwrap();
            world.openrouter.faults().clear();
            bound
        };
        let (changed, bound) = tokio::join!(writes.write(path, change), bound);
        bound.unwrap();
        let refusal = changed.unwrap_err().to_string();
        assert!(
            refusal.contains("the role stays as it was written"),
            "{refusal}"
        );
        let name = path.trim_start_matches("roles/");
        let role = world.role(name).await.unwrap();
        let lives = match path {
            ROLE => role["key_max_lifetime"].as_u64().unwrap(),
            _ => role["max_ttl"].as_u64().unwrap() + 300,
        };
        assert!(lives <= 7_200, "{role:?}");
    }
}

#[tokio::test]
async fn bounds_whose_store_failed_by_its_answer_are_in_force() {
    let world = World::with_role().await;
    let write = |bounds: Value| world.write("config", bounds);
    world.effects.record(Harm::Fault, None);
    write(json!({"max_limit": 10})).await.unwrap();
    let points = world.effects.stop();
    let stored = |point: &String| point == "after put config/default";
    let at = points.iter().position(stored);
    assert!(at.is_some(), "{points:?}");
    world.write(ROLE, json!({"limit": 6})).await.unwrap();
    world.write(ROLE, json!({"limit": 5})).await.unwrap();
    world.quiet().await;
    world.effects.record(Harm::Fault, at);
    write(json!({"max_limit": 5})).await.unwrap_err();
    world.effects.stop();
    let config = world.read("config").await.unwrap().unwrap().data;
    assert_eq!(config["max_limit"], 5);
    let refusal = refused(&world, ROLE, json!({"limit": 6})).await;
    assert!(refusal.contains("at most 5 US dollars"), "{refusal}");
}

#[tokio::test]
async fn a_refusal_of_bounds_names_every_role_with_its_reason_and_the_way_out() {
    let world = World::with_role().await;
    world.copy_role(3).await;
    for broken in ["roles/copy-2", "roles/copy-3"] {
        let (key, value) = (broken.to_owned(), b"{".to_vec());
        world.storage.put(Entry { key, value }).await.unwrap();
    }
    world
        .write("roles/copy-1", json!({"limit": 9}))
        .await
        .unwrap();
    let refusal = refused(&world, "config", json!({"max_limit": 4})).await;
    for reason in ["\"app\" has 5 US", "\"copy-1\" has 9 US"] {
        assert!(refusal.contains(reason), "{refusal}");
    }
    let answer = world.write("config", json!({"max_limit": 9})).await;
    let warnings = answer.unwrap().unwrap().warnings;
    assert!(
        warnings.iter().any(|one| one.contains("copy-2, copy-3")),
        "{warnings:?}"
    );

    let forgotten = world.write("forget-connection/default", json!({})).await;
    forgotten.unwrap();
    let connection = json!({
        "management_key": world.openrouter.management_key(), "api_url": world.gate_url(),
    });
    let mut bound = connection.clone();
    bound["max_limit"] = json!(4);
    let refusal = refused(&world, "config", bound.clone()).await;
    assert!(refusal.contains("without bounds before"), "{refusal}");
    world.write("config", connection).await.unwrap();
    for role in [ROLE, "roles/copy-1"] {
        world.write(role, json!({"limit": 1})).await.unwrap();
    }
    world.write("config", bound).await.unwrap();
}

#[tokio::test]
async fn a_read_of_a_connection_shows_the_workspaces_that_its_key_saw_without_asking() {
    let world = World::connected().await;
    let account = world.openrouter.account();
    let team = account.add_named_workspace("Team", "team").unwrap();
    world
        .write("config", json!({"description": "x"}))
        .await
        .unwrap();
    world.openrouter.requests().reset();
    let config = world.read("config").await.unwrap().unwrap().data;
    let seen = config["workspaces"].as_array().unwrap();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[1], json!({"id": team, "slug": "team", "name": "Team"}));
    assert!(world.openrouter.requests().all().is_empty());
    let fault = openrouter_simulator::Fault::status(403).on("GET", "/workspaces");
    world.openrouter.faults().add(fault);
    let answer = world
        .write("config", json!({"description": "y"}))
        .await
        .unwrap();
    let warnings = answer.unwrap().warnings;
    assert!(
        warnings[0].contains("workspaces cannot be listed"),
        "{warnings:?}"
    );
    let config = world.read("config").await.unwrap().unwrap().data;
    assert_eq!(config["workspaces"], json!(null));
}
