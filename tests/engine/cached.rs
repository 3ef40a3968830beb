//! Readers that are served from the cache: during rotation, deletion, a seal, a failover and a restore. The
//! node that makes a change never hands out a key that storage no longer had when the read began. A node that
//! is not notified of the change may do so for as long as the contract allows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::RwLock;
use vault_plugin_secrets_openrouter::logical::{Entry, Error, Storage};

use crate::harness::{ROLE, ROTATE, World};

/// The world of [`World::with_role`], with leases of an hour: an entry is used for a whole minute.
async fn world() -> World {
    let world = World::connected().await;
    let role = json!({"rotation_grace_period": 7_200, "ttl": 3_600, "rotation_period": "30d"});
    world.write(ROLE, role).await.unwrap();
    read(&world, 1).await;
    world
}

/// Checks that both kinds of readers get this version.
async fn read(world: &World, version: u64) {
    assert_eq!(world.version().await, version);
    let unleased = world.read("static-creds/app").await.unwrap().unwrap();
    assert_eq!(unleased.data["key_version"], version);
}

#[tokio::test]
async fn the_first_read_after_a_change_of_this_node_sees_it() {
    let world = world().await;
    world.write(ROTATE, Value::Null).await.unwrap();
    read(&world, 2).await;
    world.write(ROLE, json!({"ttl": 60})).await.unwrap();
    assert_eq!(world.key("app").await.unwrap()["ttl"], 60);
    let emergency = json!({"rotation_grace_period": 0});
    world.write(ROTATE, emergency).await.unwrap();
    read(&world, 3).await;
    world.delete(ROLE, json!({})).await.unwrap();
    let refusal = world.key("app").await.unwrap_err();
    assert!(refusal.contains("there is no role"), "{refusal}");
}

#[tokio::test]
async fn the_first_read_after_a_rotation_by_schedule_sees_it() {
    let world = world().await;
    world.time.set(world.after(30 * 24 * 3_600 - 30));
    read(&world, 1).await;
    world.time.set(world.after(30));
    world.quiet().await;
    read(&world, 2).await;
}

/// The other nodes have committed it.
#[tokio::test]
async fn a_change_that_is_reported_as_failed_is_looked_for_in_storage() {
    let world = world().await;
    let node = world.node();
    node.storage.late_when_putting(ROLE);
    world.write(ROTATE, Value::Null).await.unwrap_err();
    // The engine has rewritten the entry as it read it. The late put overtakes that.
    world.quiet().await;
    read(&world, 1).await;
    node.storage.commit_what_is_late().await;
    read(&world, 2).await;
    assert_eq!(world.broken_promises(), [""; 0]);
}

#[tokio::test]
async fn what_another_node_has_changed_is_seen_as_soon_as_the_server_tells() {
    let world = world().await;
    let reader = world.node();
    world.take_over().await;
    world.write(ROTATE, Value::Null).await.unwrap();
    let seen = async || {
        let answer = reader.read("static-creds/app").await.unwrap().unwrap();
        answer.data["key_version"].clone()
    };
    assert_eq!(seen().await, 1, "it was not told");
    reader.backend.invalidate("roles/other").await;
    assert_eq!(seen().await, 1, "it was told of something else");
    reader.backend.invalidate(ROLE).await;
    assert_eq!(seen().await, 2);
}

/// Such a node is either a deposed leader, or a standby that its server does not notify.
#[tokio::test]
async fn a_node_that_is_told_nothing_hands_out_what_it_read_for_a_minute_and_keeps_the_promise() {
    let world = world().await;
    let reader = world.node();
    let asked = world.time.now();
    world.take_over().await;
    // The shortest grace period that is allowed, just after the entry was read.
    let shortest = json!({"rotation_grace_period": 4_000});
    world.write(ROTATE, shortest).await.unwrap();
    let mut served = 0;
    let until = loop {
        let answer = reader.read("static-creds/app").await.unwrap().unwrap();
        let ttl = answer.data["ttl"].as_i64().unwrap();
        if answer.data["key_version"] == 2 {
            break world.time.now();
        }
        served += 1;
        // The promise, as the reader sees it.
        let key = world.role("app").await.unwrap()["superseded_keys"][0].clone();
        let revoke_at: jiff::Timestamp = key["revoke_at"].as_str().unwrap().parse().unwrap();
        assert!(revoke_at >= world.after(ttl), "{key}");
        world.time.set(world.after(1));
    };
    assert!(served > 50, "{served}");
    assert!(until.duration_since(asked).as_secs() <= 60);
}

#[tokio::test]
async fn a_key_that_expired_in_the_cache_is_looked_for_in_storage() {
    let world = World::connected().await;
    // Leases of an hour, and a key that lives slightly longer than its grace period.
    let role = json!({
        "ttl": 3_600,
        "rotation_grace_period": 7_200,
        "disable_automated_rotation": true,
        "key_max_lifetime": 9_000,
    });
    world.write(ROLE, role).await.unwrap();
    let reader = world.node();
    world.time.set(world.after(8_990));
    let read = async || reader.read("static-creds/app").await.unwrap().unwrap().data;
    assert_eq!(read().await["key_version"], 1);
    world.take_over().await;
    world.write(ROTATE, Value::Null).await.unwrap();
    assert_eq!(read().await["key_version"], 1, "it was not told");
    world.time.set(world.after(10));
    assert_eq!(read().await["key_version"], 2);
}

#[tokio::test]
async fn nobody_is_served_after_a_seal_from_what_was_read_before_it() {
    let world = world().await;
    let node = world.node();
    node.backend.cleanup().await;
    let before = node.storage.calls();
    for _ in 0..2 {
        node.read("static-creds/app").await.unwrap();
    }
    assert_eq!(node.storage.calls() - before, 2, "each asks storage");
}

/// A process also serves the next instance of a mount. Storage has changed while there was none.
#[tokio::test]
async fn the_next_instance_knows_nothing_of_what_was_read_before_a_restore_or_a_failover() {
    let world = world().await;
    let snapshot = world.snapshot();
    let first = world.storage.get(ROLE).await.unwrap().unwrap();
    for is_restored in [false, true] {
        world.write(ROTATE, Value::Null).await.unwrap();
        let before = world.key_hash("app").await;
        match is_restored {
            false => {
                // As another leader leaves it.
                let (key, value) = (ROLE.to_owned(), first.clone());
                let entry = Entry { key, value };
                let failover = async || world.storage.put(entry.clone()).await.unwrap();
                world.reload_after(failover).await;
            }
            true => {
                let restore = async || world.put_back(snapshot.clone()).await;
                world.reload_after(restore).await;
            }
        }
        let unleased = world.read("static-creds/app").await.unwrap().unwrap();
        assert_ne!(unleased.data["key_hash"], before);
        assert_ne!(world.key_hash("app").await, before);
        world.time.set(world.after(60));
        world.quiet().await;
    }
}

#[tokio::test]
async fn a_node_that_may_not_write_any_more_forgets_what_it_has_read() {
    let world = world().await;
    let node = world.node();
    world.time.set(world.after(30 * 24 * 3_600 - 1));
    read(&world, 1).await;
    node.storage.make_read_only();
    // Its keeper learns of it when it tries to rotate.
    world.time.set(world.after(1));
    world.quiet().await;
    let before = node.storage.calls();
    node.read("static-creds/app").await.unwrap();
    assert_eq!(node.storage.calls() - before, 1);
}

/// Its keeper has nothing to do, and so does not learn of it.
#[tokio::test]
async fn a_node_whose_caller_may_not_write_any_more_forgets_what_it_has_read() {
    let world = world().await;
    let node = world.node();
    node.storage.make_read_only();
    let refused = node.write("roles/other", json!({})).await;
    assert_eq!(refused, Err(Error::ReadOnly));
    let before = node.storage.calls();
    node.read("static-creds/app").await.unwrap();
    assert!(node.storage.calls() > before);
}

/// Its last write reaches storage when the next process has already read the entry. No one is notified.
#[tokio::test]
async fn a_write_in_flight_when_the_process_was_killed_is_seen_after_a_minute() {
    let world = world().await;
    let killed = world.node();
    let held = killed.storage.hold_when_putting(ROLE);
    killed.storage.late_when_putting(ROLE);
    let node = Arc::clone(&killed);
    tokio::spawn(async move { node.write(ROTATE, Value::Null).await });
    held.has_come.cancelled().await;
    // The server has the write, and the process is gone.
    held.let_go.cancel();
    world.restart_plugin().await;
    world.quiet().await;
    read(&world, 1).await;
    killed.storage.commit_what_is_late().await;
    read(&world, 1).await;
    world.time.set(world.after(60));
    read(&world, 2).await;
    world.quiet().await;
    read(&world, 2).await;
    assert_eq!(world.broken_promises(), [""; 0]);
}

/// If a role has nothing to hand out, every read checks it again.
#[tokio::test]
async fn a_key_that_is_not_handed_out_is_not_cached() {
    let world = world().await;
    let unclear = openrouter_simulator::Fault::status(502);
    world
        .openrouter
        .faults()
        .add(unclear.on("DELETE", "/keys/*"));
    world.delete(ROLE, json!({})).await.unwrap_err();
    world.quiet().await;
    let before = world.node().storage.calls();
    for _ in 0..2 {
        let refusal = world.read("creds/app").await.unwrap_err().to_string();
        assert!(refusal.contains("is being deleted"), "{refusal}");
    }
    assert_eq!(world.node().storage.calls() - before, 2);
}

/// Rotations, emergencies, seals, failovers, restores, a write that is reported as failed and takes effect
/// later, and finally a deletion.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_readers_never_get_a_key_that_storage_no_longer_had() {
    let world = Arc::new(world().await);
    let over = Arc::new(AtomicBool::new(false));
    // Like the server, the test keeps readers out during a restore: the same version may be a different key
    // before and after it.
    let restoring = Arc::new(RwLock::new(()));
    let readers: Vec<_> = (0..100)
        .map(|number| {
            let (world, over) = (Arc::clone(&world), Arc::clone(&over));
            let restoring = Arc::clone(&restoring);
            let path = ["creds/app", "static-creds/app"][number % 2];
            tokio::spawn(async move {
                let mut reads = 0;
                while !over.load(Ordering::Relaxed) {
                    let is_restored = restoring.read().await;
                    let stored = version_in_storage(&world).await;
                    let answer = world.read(path).await;
                    let stored_after = version_in_storage(&world).await;
                    drop(is_restored);
                    match answer {
                        Ok(answer) => {
                            let version = answer.unwrap().data["key_version"].as_u64().unwrap();
                            let stored = stored.expect("the role was gone when the read began");
                            assert!(version >= stored, "{version} after {stored}");
                            let last = stored_after.unwrap_or(version);
                            assert!(version <= last, "{version} before {last}");
                        }
                        Err(reason) => {
                            let reason = reason.to_string();
                            let told = ["is being deleted", "there is no role"];
                            assert!(told.iter().any(|told| reason.contains(told)), "{reason}");
                        }
                    }
                    reads += 1;
                    tokio::task::yield_now().await;
                }
                reads
            })
        })
        .collect();
    // Readers continue with what they have for a while.
    let a_while = || tokio::time::sleep(Duration::from_millis(5));
    let mut is_late = false;
    for round in 0..20 {
        let body = match round % 3 {
            0 => json!({"rotation_grace_period": 0}),
            _ => Value::Null,
        };
        let before = world.snapshot();
        // The engine may replace the key of restored storage on its own, at the same time.
        if let Err(reason) = world.node().write(ROTATE, body).await {
            let reason = reason.to_string();
            assert!(reason.contains("while this request waited"), "{reason}");
        }
        a_while().await;
        match round % 4 {
            0 => world.reload().await,
            1 => {
                // Readers of the previous instance are no longer served.
                let kept_out = restoring.write().await;
                world.restart().await;
                drop(kept_out);
            }
            2 if round % 3 != 0 => {
                let kept_out = restoring.write().await;
                let restore = async || world.put_back(before).await;
                world.reload_after(restore).await;
                drop(kept_out);
            }
            3 if !is_late => is_late = rotate_late(&world).await,
            _ => {}
        }
        a_while().await;
    }
    assert!(is_late);
    world.node().delete(ROLE, json!({})).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    over.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
}

/// A rotation is reported as failed and takes effect later, after the engine has rewritten the role as it
/// read it. `false` if another write of the engine was lost instead, which then never takes effect.
async fn rotate_late(world: &World) -> bool {
    let node = world.node();
    node.storage.late_when_putting(ROLE);
    let answer = node.write(ROTATE, Value::Null).await;
    let is_late = answer.is_err_and(|reason| reason.to_string().contains("deadline exceeded"));
    if is_late {
        while !node.storage.is_late_overtaken() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Readers continue with what they have.
        tokio::time::sleep(Duration::from_millis(5)).await;
        node.storage.commit_what_is_late().await;
    }
    is_late
}

/// The stored version; `None` if the role is gone.
async fn version_in_storage(world: &World) -> Option<u64> {
    let entry = world.storage.get(ROLE).await.unwrap()?;
    let entry: Value = serde_json::from_slice(&entry).unwrap();
    entry["entry"]["rotating"]["current"]["version"].as_u64()
}
