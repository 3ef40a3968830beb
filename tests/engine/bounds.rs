//! What a connection lets its roles do binds whoever writes roles, and whatever storage says.

use serde_json::{Value, json};

use crate::harness::{CI, ROLE, ROTATE, World, role};

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

#[tokio::test]
async fn bounds_that_make_no_sense_are_refused() {
    let world = World::connected().await;
    for (bounds, reason) in [
        (json!({"allowed_roles": ""}), "allowed_roles must name"),
        (json!({"allowed_roles": []}), "allowed_roles must name"),
        (json!({"allowed_roles": "a/b"}), "\"a/b\" is none"),
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
    let before = world.snapshot().await;
    world.write(ROLE, json!({"limit": 1})).await.unwrap();
    world
        .write("config", json!({"max_limit": 1}))
        .await
        .unwrap();
    // Of the snapshot only the roles are restored.
    let mut restored = world.snapshot().await;
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
async fn a_key_lives_no_longer_than_its_connection_allows_whatever_the_schedule_makes_of_it() {
    let world = World::connected().await;
    world
        .write("config", json!({"max_key_lifetime": 7_800}))
        .await
        .unwrap();
    world.write(ROLE, role()).await.unwrap();
    let key = world.openrouter.account().keys().remove(0);
    let lives = key.expires_at.unwrap().duration_since(key.created_at);
    assert_eq!(lives.as_secs(), 7_800);
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
