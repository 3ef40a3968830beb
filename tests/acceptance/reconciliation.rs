//! Keys that are changed behind the engine's back, and keys that it takes over, on a real server.

use openrouter_simulator::{KeyChanges, NewKey};
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
async fn what_somebody_does_in_the_dashboard_is_in_the_status_and_put_right() {
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
    // It compares when it begins its work, and every hour.
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
    // As Terraform writes it again.
    mount.write("roles/chatbot", body).await.ok();
    mount.knows_every_key().await;
    let management_key = mount.openrouter.management_key();
    mount
        .write("roles/third", json!({"api_key": management_key}))
        .await
        .refused(400, &["this is a management key"]);
}
