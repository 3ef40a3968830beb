//! Custody: every key of an account, its owner, and how it is revoked.

use openrouter_simulator::NewKey;
use serde_json::{Value, json};

use crate::harness::{Mount, Vault};

fn words(value: &Value) -> String {
    let words = value.as_array().expect("a list").iter();
    let words: Vec<_> = words.map(|word| word.as_str().expect("text")).collect();
    words.join("\n")
}

#[tokio::test]
async fn a_detailed_list_shows_the_owner_of_every_key() {
    let mount = Mount::new().await;
    mount.role("app", json!({"limit": 5})).await;
    let account = mount.openrouter.account();
    let by_hand = account.create_key(NewKey {
        workspace_id: Some(account.add_workspace()),
        ..NewKey::named("somebody's\u{1b}[31m key")
    });
    let vault = Vault::shared().await;
    let keys = mount.at("keys/default");
    let shown = vault.cli(&["list", "-detailed", &keys]).await.ok();
    for column in [
        "name",
        "owner",
        "role",
        "state",
        "limit",
        "usage",
        "last_used_at",
        "expires_at",
    ] {
        assert!(shown.contains(column), "{column} in:\n{shown}");
    }
    let row = |hash: &str| {
        let row = shown.lines().find(|line| line.contains(hash));
        row.unwrap_or_else(|| panic!("{hash} in:\n{shown}"))
            .to_owned()
    };
    let role = mount.read("roles/app").await.ok();
    let current = row(role.field("current_key")["hash"].as_str().unwrap());
    for cell in ["role", "app", "current"] {
        assert!(current.contains(cell), "{current}");
    }
    let by_hand = row(&by_hand.hash);
    assert!(
        by_hand.contains("unmanaged") && by_hand.contains("active"),
        "{by_hand}"
    );
    assert!(!shown.contains('\u{1b}'));

    // The same without the CLI, in parts.
    let reply = mount.list("keys/default").await.ok();
    assert_eq!(reply.keys().len(), 2);
    let part = mount.read("keys/default?limit=1").await.ok();
    assert_eq!(part.field("complete"), false);
    let next = part.warns(&["read the path with after="]).text("next");
    let rest = mount.read(&format!("keys/default?after={next}")).await.ok();
    assert_eq!(rest.field("complete"), true);
    assert_eq!(rest.field("keys").as_array().unwrap().len(), 1);
    let filtered = mount.read("keys/default?owner=unmanaged").await.ok();
    assert_eq!(filtered.field("keys")[0]["owner"], "unmanaged");
    mount
        .read("keys/default?owner=me")
        .await
        .refused(400, &["owner must be one of"]);
}

#[tokio::test]
async fn a_leaked_key_of_a_role_is_looked_up_and_ended_by_the_command_that_is_named() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let leaked = mount.key("app").await;
    let found = mount.write("lookup", json!({"api_key": leaked})).await.ok();
    assert_eq!(
        (found.text("owner"), found.text("role")),
        ("role".into(), "app".into())
    );
    assert_eq!(
        (found.text("state"), found.integer("key_version")),
        ("current".into(), 1)
    );
    let command = format!(
        "vault write {} rotation_grace_period=0",
        mount.at("rotate-role/app")
    );
    assert_eq!(words(found.field("commands")), command);
    assert!(!found.json().to_string().contains(&leaked));
    let hash = found.text("key_hash");
    mount
        .write(
            &format!("revoke-key/default/{hash}"),
            json!({"force": true}),
        )
        .await
        .refused(400, &["never revoked", "rotate-role/app"]);
    let rotate = json!({"rotation_grace_period": 0});
    mount.write("rotate-role/app", rotate).await.ok();
    assert!(!mount.openrouter.accepts(&leaked).await);
}

#[tokio::test]
async fn a_leaked_key_of_a_lease_is_traced_to_the_request_that_asked_for_it() {
    let mount = Mount::new().await;
    mount
        .role("ci", json!({"credential_type": "dynamic"}))
        .await;
    let lease = mount.read("creds/ci").await.ok();
    let leaked = lease.text("api_key");
    let found = mount.write("lookup", json!({"api_key": leaked})).await.ok();
    assert_eq!(found.text("owner"), "lease");
    let requester = found.field("requester");
    assert_eq!(requester["request_id"], lease.json()["request_id"]);
    assert_eq!(requester["display_name"], "token");
    let path = format!("revoke-key/default/{}", found.text("key_hash"));
    mount
        .write(&path, json!({}))
        .await
        .refused(400, &["under a lease of role ci", "force=true"]);
    mount.write(&path, json!({"force": true})).await.ok();
    assert!(!mount.openrouter.accepts(&leaked).await);
    // The server's lease ends without an error.
    let revoke = json!({"lease_id": lease.lease_id(), "sync": true});
    mount.client().write("sys/leases/revoke", revoke).await.ok();
}

#[tokio::test]
async fn a_key_that_somebody_made_by_hand_is_disabled_enabled_and_revoked() {
    let mount = Mount::new().await;
    let account = mount.openrouter.account();
    let hash = account.create_key(NewKey::named("by hand")).hash;
    let found = mount.write("lookup", json!({"key_hash": hash})).await.ok();
    assert_eq!(found.text("owner"), "unmanaged");
    let commands = words(found.field("commands"));
    for path in ["disable-key", "revoke-key"] {
        let path = mount.at(&format!("{path}/default/{hash}"));
        assert!(commands.contains(&path), "{commands}");
    }
    let disable = format!("disable-key/default/{hash}");
    for disabled in [true, false] {
        mount
            .write(&disable, json!({"disabled": disabled}))
            .await
            .ok();
        assert_eq!(account.key(&hash).unwrap().disabled, disabled);
    }
    mount
        .write(&format!("revoke-key/default/{hash}"), json!({}))
        .await
        .ok();
    assert!(mount.openrouter.hashes().is_empty());
    mount.read(&format!("keys/default/{hash}")).await.absent();
}

#[tokio::test]
async fn while_openrouter_is_away_status_goes_on_and_the_inventory_says_so() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let key = mount.key("app").await;
    mount.openrouter.fail();
    mount
        .read("keys/default")
        .await
        .refused(502, &["keys cannot be listed", "503"]);
    let found = mount.write("lookup", json!({"api_key": key})).await.ok();
    assert_eq!(found.text("role"), "app");
    found.warns(&["connection \"default\" could not be asked"]);
    let status = mount.read("status").await.ok();
    assert_eq!(status.field("keys")["current"], 1);
    assert!(status.field("connections")["default"]["last_error"].is_string());
    let list = mount.list("roles").await.ok();
    let info = &list.field("key_info")["app"];
    assert_eq!(
        (&info["credential_type"], &info["rotation_status"]),
        (&json!("rotating"), &json!("success"))
    );
}
