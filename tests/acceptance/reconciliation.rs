//! Keys that are changed outside the engine, and keys that it adopts, on a real server.

use std::time::Duration;

use openrouter_simulator::{KeyChanges, NewGuardrail, NewKey};
use serde_json::{Value, json};

use crate::harness::{Mount, RaftVault, Reply, SOON, eventually};

fn has(role: &Reply, drift: &str, hash: &str) -> Option<()> {
    let mut found = role.field("drift").as_array()?.iter();
    let is_it = |noted: &Value| noted["drift"] == drift && noted["key_hash"] == hash;
    found.any(is_it).then_some(())
}

async fn eventually_found(mount: &Mount, role: &str, drift: &str, hash: &str) {
    let path = format!("roles/{role}");
    let found = async || has(&mount.read(&path).await.ok(), drift, hash);
    eventually(drift, SOON, found).await;
}

#[tokio::test]
async fn changes_in_the_dashboard_are_reported_and_undone() {
    let vault = RaftVault::new().await;
    let mount = Mount::on(vault.client()).await;
    mount.role("app", json!({"limit": 5})).await;
    mount.role("plugged", json!({})).await;
    let account = mount.openrouter.account();
    let hash = |role: &Reply| {
        role.field("current_key")["hash"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let app = hash(&mount.read("roles/app").await.ok());
    let plugged = hash(&mount.read("roles/plugged").await.ok());
    let changes = KeyChanges {
        limit: Some(Some(500.0)),
        ..KeyChanges::default()
    };
    account.change_key(&app, &changes).unwrap();
    account.set_disabled(&plugged, true).unwrap();
    // The engine compares when it begins its work, and every hour.
    vault.seal().await;
    vault.unseal().await;
    eventually_found(&mount, "app", "limits_changed", &app).await;
    assert_eq!(account.key(&app).unwrap().limit, Some(5.0));
    eventually_found(&mount, "plugged", "current_key_disabled", &plugged).await;
    mount
        .read("creds/plugged")
        .await
        .refused(400, &["disabled at OpenRouter by somebody"]);
    assert_eq!(
        account.keys().len(),
        2,
        "nothing is replaced behind their back"
    );
    mount.write("rotate-role/plugged", json!({})).await.ok();
    mount.read("creds/plugged").await.ok();
}

#[tokio::test]
async fn each_finding_of_the_table_is_in_the_status_within_an_interval() {
    let mount = Mount::new().await;
    let account = mount.openrouter.account();
    let strict = account.add_guardrail(NewGuardrail::named("strict"));
    let elsewhere = account.add_workspace();
    let by_hand = json!({"limit": 5, "disable_automated_rotation": true});
    for role in [
        "gone",
        "off",
        "raised",
        "moved",
        "renamed",
        "forgotten",
        "old-off",
        "old-gone",
        "left",
    ] {
        mount.role(role, by_hand.clone()).await;
    }
    mount.role("guarded", json!({"guardrail": "strict"})).await;
    mount.role("held", json!({"revocation_hold": "1h"})).await;
    let current = async |role: &str| {
        let role = mount.read(&format!("roles/{role}")).await.ok();
        role.field("current_key").clone()
    };
    let hash = async |role: &str| current(role).await["hash"].as_str().unwrap().to_owned();
    let mut expected = Vec::new();
    for (role, drift) in [
        ("gone", "current_key_gone"),
        ("off", "current_key_disabled"),
        ("raised", "limits_changed"),
        ("moved", "key_moved"),
        ("renamed", "key_renamed"),
        ("guarded", "guardrail_changed"),
        ("old-off", "superseded_key_disabled"),
        ("old-gone", "superseded_key_gone"),
        ("held", "held_key_enabled"),
    ] {
        expected.push((role, drift, hash(role).await));
    }
    for (role, body) in [
        ("old-off", json!({})),
        ("old-gone", json!({})),
        ("held", json!({"rotation_grace_period": 0})),
    ] {
        mount.write(&format!("rotate-role/{role}"), body).await.ok();
    }
    let leases = json!({"credential_type": "dynamic", "ttl": "30m", "max_ttl": "1h", "limit": 1});
    mount.role("ci", leases).await;
    for drift in ["leased_key_gone", "leased_key_disabled"] {
        let lease = mount.read("creds/ci").await.ok();
        expected.push(("ci", drift, lease.text("key_hash")));
    }
    let interval = json!({"reconcile_interval": "1m"});
    mount.patch("config", interval).await.ok();

    let change = |hash: &str, changes: KeyChanges| account.change_key(hash, &changes).unwrap();
    for (_, drift, hash) in &expected {
        match *drift {
            "current_key_gone" | "superseded_key_gone" | "leased_key_gone" => {
                account.delete_key(hash).unwrap();
            }
            "limits_changed" => change(
                hash,
                KeyChanges {
                    limit: Some(Some(500.0)),
                    ..KeyChanges::default()
                },
            ),
            "key_moved" => change(
                hash,
                KeyChanges {
                    workspace_id: Some(elsewhere.clone()),
                    ..KeyChanges::default()
                },
            ),
            "key_renamed" => change(
                hash,
                KeyChanges {
                    name: Some("by hand".to_owned()),
                    ..KeyChanges::default()
                },
            ),
            "guardrail_changed" => assert!(account.unassign_guardrail(hash)),
            "held_key_enabled" => account.set_disabled(hash, false).unwrap(),
            _ => account.set_disabled(hash, true).unwrap(),
        }
    }
    // Nobody has its key from now on.
    let body = json!({"revoke_keys": false});
    mount.write("forget-role/left", body).await.ok();
    // As after a restored snapshot: a key with the role's mark that storage has forgotten.
    let name = current("forgotten").await["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let (marked, _) = name.split_at(name.len() - 16);
    let marked = |number: u64| {
        let name = format!("{marked}{number:016x}");
        account.create_key(NewKey::named(name)).hash
    };
    let forgotten = marked(1);
    expected.push(("forgotten", "unknown_key", forgotten));

    for (role, drift, hash) in &expected {
        let found = async || {
            has(
                &mount.read(&format!("roles/{role}")).await.ok(),
                drift,
                hash,
            )
        };
        eventually(drift, Duration::from_secs(120), found).await;
    }
    let of = |drift: &str| {
        let mut rows = expected.iter();
        let row = rows.find(|(_, other, _)| *other == drift).unwrap();
        account.key(&row.2).unwrap()
    };
    assert_eq!(of("limits_changed").limit, Some(5.0));
    assert!(of("held_key_enabled").disabled);
    assert!(of("leased_key_disabled").disabled && of("superseded_key_disabled").disabled);
    assert_eq!(
        account.guardrail_of(&of("guardrail_changed").hash),
        Some(strict)
    );
    mount.read("creds/guarded").await.ok();
    mount
        .read("creds/off")
        .await
        .refused(400, &["disabled at OpenRouter by somebody"]);

    let status = mount.read("status").await.ok();
    assert_eq!(status.field("connections")["default"]["stray_keys"], 1);

    // As if another copy of the storage had created it, a few minutes from now.
    let theirs = marked(2);
    let soon = account.key(&theirs).unwrap().created_at + Duration::from_secs(600);
    account.set_created(&theirs, soon).unwrap();
    let off = of("current_key_disabled").hash;
    account.set_disabled(&off, false).unwrap();
    let restored = async || {
        has(
            &mount.read("roles/off").await.ok(),
            "current_key_restored",
            &off,
        )
    };
    eventually("it works again", Duration::from_secs(120), restored).await;
    let warned = async || {
        let status = mount.read("status").await.ok();
        let copies = status.field("two_copies")["keys"].to_string();
        copies.contains(&theirs).then_some(())
    };
    eventually("another copy", Duration::from_secs(120), warned).await;
    mount.read("creds/off").await.ok();
}

#[tokio::test]
async fn an_applications_key_is_adopted_and_rotated_without_the_application_noticing() {
    let mount = Mount::new().await;
    let account = mount.openrouter.account();
    let by_hand = account.create_key(NewKey {
        limit: Some(20.0),
        ..NewKey::named("chatbot")
    });
    let body = json!({"api_key": by_hand.secret(), "rotation_grace_period": "1h", "ttl": 60});
    let adopted = mount.role("chatbot", body.clone()).await;
    assert!(
        adopted
            .warnings()
            .iter()
            .any(|w| w.contains("rotate-role/chatbot"))
    );
    assert_eq!(mount.key("chatbot").await, by_hand.secret());
    let role = mount.read("roles/chatbot").await.ok();
    assert_eq!(*role.field("limit"), json!(20));
    assert!(!role.json().to_string().contains(by_hand.secret()));
    mount
        .write("roles/other", body.clone())
        .await
        .refused(400, &["api_key is a key of role"]);
    mount.write("rotate-role/chatbot", json!({})).await.ok();
    assert_ne!(mount.key("chatbot").await, by_hand.secret());
    assert!(mount.openrouter.accepts(by_hand.secret()).await);
    // Terraform writes it again in the same way.
    mount.write("roles/chatbot", body).await.ok();
    mount.knows_every_key().await;
    let management_key = mount.openrouter.management_key();
    mount
        .write("roles/third", json!({"api_key": management_key}))
        .await
        .refused(400, &["this is a management key"]);
}
