//! A snapshot of the server's storage is restored, from before rotations that OpenRouter still shows.

use openrouter_simulator::{Fault, NewKey};
use serde_json::json;

use crate::crash::kill_plugin;
use crate::harness::{Mount, Promise, RaftVault, SOON, Vault, eventually};

#[tokio::test]
async fn recovery_from_a_snapshot_before_a_rotation_needs_no_person() {
    let vault = RaftVault::new().await;
    let mount = Mount::on(vault.client()).await;
    for role in ["superseded", "gone", "untouched"] {
        mount
            .role(role, json!({"rotation_grace_period": 600, "ttl": 300}))
            .await;
    }
    let (untouched, gone) = (mount.key("untouched").await, mount.key("gone").await);
    let snapshot = vault.save_snapshot().await;
    mount.write("rotate-role/superseded", json!({})).await.ok();
    let forgotten = mount.key("superseded").await;
    let emergency = json!({"rotation_grace_period": 0});
    mount.write("rotate-role/gone", emergency).await.ok();
    let by_hand = "somebody's own".to_owned();
    mount.openrouter.account().create_keys(&by_hand, 1);
    let before = mount.openrouter.hashes().len();
    vault.restore_snapshot(&snapshot).await;

    let recovered = async || {
        let role = async |name: &str| mount.read(&format!("roles/{name}")).await;
        let [superseded, gone] = [role("superseded").await, role("gone").await];
        let version =
            |reply: &crate::harness::Reply| reply.data()["current_key"]["version"].as_u64();
        (version(&superseded) == Some(3) && version(&gone) == Some(3)).then_some(())
    };
    eventually("the rotations are done again", SOON, recovered).await;
    assert_ne!(mount.key("gone").await, gone);
    assert_eq!(mount.key("untouched").await, untouched);
    for role in ["superseded", "gone", "untouched"] {
        assert!(
            mount.openrouter.accepts(&mount.key(role).await).await,
            "{role}"
        );
    }
    // Readers from before the restore were promised this much.
    assert!(mount.openrouter.accepts(&forgotten).await);
    // The two new keys. Nothing was deleted, least of all keys of others.
    assert_eq!(mount.openrouter.hashes().len(), before + 2);
    for words in [
        "a key of the role was unknown to storage",
        "the current key is gone at OpenRouter",
    ] {
        vault.node().has_logged(words).await;
    }
}

#[tokio::test]
async fn a_current_key_that_is_gone_is_replaced_however_many_keys_nobody_knows_of() {
    let vault = Vault::dev().await;
    let mount = Mount::on(vault.client()).await;
    let role = json!({"rotation_grace_period": 5, "ttl": 4});
    mount.role("app", role).await;
    let account = mount.openrouter.account();
    let current = account.keys().remove(0);
    // Keys with the role's own mark that the restored storage has forgotten.
    let mark = &current.name[..current.name.len() - 16];
    for n in 0..STRAYS {
        account.create_key(NewKey::named(format!("{mark}{n:016x}")));
    }
    account.delete_key(&current.hash).unwrap();
    kill_plugin(&vault).await;

    let replaced = async || {
        let reply = mount.read("static-creds/app").await;
        let replaced = reply.status() == 200 && reply.text("key_hash") != current.hash;
        replaced.then(|| reply.text("api_key"))
    };
    let key = eventually("the current key is replaced", SOON, replaced).await;
    assert!(mount.openrouter.accepts(&key).await);
    let over = async || (mount.openrouter.hashes().len() == 1).then_some(());
    eventually("the keys that nobody knew are revoked", SOON, over).await;
    assert!(mount.openrouter.accepts(&key).await);
    mount.knows_every_key().await;
}

/// The snapshot contains the order of the key, but not that it was handed out.
#[tokio::test]
async fn a_key_that_was_being_ordered_at_the_snapshot_lives_as_its_readers_were_promised() {
    let vault = RaftVault::new().await;
    let mount = Mount::on(vault.client()).await;
    let times = json!({"rotation_grace_period": 15, "ttl": 10});
    mount.role("app", times).await;
    let faults = mount.openrouter.faults();
    faults.add(Fault::held().on("POST", "/keys"));
    let taking = async {
        mount.openrouter.holding(1).await;
        let snapshot = vault.save_snapshot().await;
        faults.clear();
        snapshot
    };
    let rotating = mount.write("rotate-role/app", json!({}));
    let (rotated, snapshot) = tokio::join!(rotating, taking);
    rotated.ok();
    let asked = mount.openrouter.clock().now();
    let reply = mount.read("creds/app").await.ok();
    assert_eq!(reply.integer("key_version"), 2);
    vault.restore_snapshot(&snapshot).await;
    Promise::made_by(&reply, asked).is_kept(&mount).await;
    let key = reply.text("key_hash");
    let is_over = async || (!mount.openrouter.hashes().contains(&key)).then_some(());
    eventually("nobody can hold it any more", SOON, is_over).await;
    mount.knows_every_key().await;
}

#[tokio::test]
async fn a_key_that_a_snapshot_forgets_is_found_in_the_account_that_its_role_had_moved_to() {
    let vault = RaftVault::new().await;
    let mount = Mount::on(vault.client()).await;
    let times = json!({"rotation_grace_period": 600, "ttl": 300});
    mount.role("app", times).await;
    let other = mount.openrouter.add_account();
    let connection = json!({
        "api_url": mount.openrouter.base_url(),
        "management_key": other.add_management_key(),
    });
    mount.write("config/other", connection).await.ok();
    mount.role("app", json!({"connection": "other"})).await;
    let snapshot = vault.save_snapshot().await;
    mount.write("rotate-role/app", json!({})).await.ok();
    let forgotten = mount.read("static-creds/app").await.ok();
    assert_eq!(other.keys().len(), 1);
    vault.restore_snapshot(&snapshot).await;
    let is_known = async || {
        let role = mount.read("roles/app").await;
        let keys = role.data()["superseded_keys"].to_string();
        keys.contains(&forgotten.text("key_hash")).then_some(())
    };
    eventually("the forgotten key is superseded", SOON, is_known).await;
    let key = forgotten.text("api_key");
    assert!(mount.openrouter.accepts(&key).await);
}

/// More than the maximum number of superseded keys of a role.
const STRAYS: u32 = 150;
