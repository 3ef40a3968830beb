//! Many at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use openrouter_simulator::Fault;
use serde_json::{Value, json};

use crate::harness::{ROLE, ROTATE, World, hash_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_readers_never_see_anything_but_a_whole_key_that_works() {
    let world = Arc::new(World::with_role().await);
    let (over, reads) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let readers: Vec<_> = (0..100)
        .map(|_| {
            let (world, over, reads) = (Arc::clone(&world), Arc::clone(&over), Arc::clone(&reads));
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    read(&world).await;
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let node = world.node();
    for round in 0..10 {
        world.time.set(world.after(1));
        let bodies = [
            json!({"limit": 10 + round, "limit_reset": "daily"}),
            json!({"description": format!("round {round}"), "key_name": format!("app {round}")}),
        ];
        let [limits, words] = bodies;
        let (rotated, limited, described) = tokio::join!(
            node.write(ROTATE, Value::Null),
            node.write(ROLE, limits),
            node.write(ROLE, words),
        );
        for answer in [rotated, limited, described] {
            answer.unwrap();
        }
    }
    over.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    assert!(reads.load(Ordering::Relaxed) > 100);
    let role = world.role("app").await.unwrap();
    assert_eq!(role["limit"], 19, "no update is lost");
    assert_eq!(role["description"], "round 9");
    assert_eq!(role["current_key"]["version"], 11);
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_a_role_that_is_deleted_get_the_key_or_are_told() {
    let world = Arc::new(World::with_role().await);
    let readers: Vec<_> = (0..100)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                loop {
                    if let Err(reason) = world.key("app").await {
                        break reason;
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    world.node().delete(ROLE, json!({})).await.unwrap();
    for reader in readers {
        let reason = reader.await.unwrap();
        let told = reason.contains("is being deleted") || reason.contains("there is no role");
        assert!(told, "{reason}");
    }
    assert!(world.openrouter.account().keys().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_do_not_wait_for_each_other() {
    let world = Arc::new(World::connected().await);
    let writers = (0..50).map(|number| {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            let node = world.node();
            let (role, rotate) = (format!("roles/r{number}"), format!("rotate-role/r{number}"));
            node.write(&role, json!({})).await.unwrap();
            node.write(&rotate, Value::Null).await.unwrap();
            node.delete(&role, json!({})).await.unwrap();
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert!(world.openrouter.account().keys().is_empty());
    assert!(world.intents().is_empty());
    assert!(world.openrouter.requests().high_water_mark() <= 8);
}

#[tokio::test]
async fn a_rotation_that_waits_behind_another_is_told_that_it_was_done() {
    let world = World::with_role().await;
    let slow = Fault::Slow {
        milliseconds: 50,
        after_effect: true,
    };
    world.openrouter.faults().add(slow.on("POST", "/keys"));
    let node = world.node();
    let rotate = || node.write(ROTATE, Value::Null);
    let (first, second) = tokio::join!(rotate(), rotate());
    first.unwrap();
    let refusal = second.unwrap_err().to_string();
    assert!(refusal.contains("was rotated at"), "{refusal}");
    assert_eq!(world.orders(), 2);
}

#[tokio::test]
async fn an_emergency_that_waits_behind_a_rotation_is_carried_out_all_the_same() {
    let world = World::with_role().await;
    let slow = Fault::Slow {
        milliseconds: 50,
        after_effect: true,
    };
    world.openrouter.faults().add(slow.on("POST", "/keys"));
    let node = world.node();
    let (first, second) = tokio::join!(
        node.write(ROTATE, Value::Null),
        node.write(ROTATE, json!({"rotation_grace_period": 0})),
    );
    first.unwrap();
    second.unwrap();
    assert_eq!(world.version().await, 3);
    assert_eq!(world.openrouter.account().keys().len(), 1);
    assert_eq!(world.violations().await, [""; 0]);
}

/// Reads once: what comes is one key, whole, and alive.
async fn read(world: &World) {
    let data = world.key("app").await.unwrap();
    let hash = data["key_hash"].as_str().unwrap();
    assert_eq!(hash_of(data["api_key"].as_str().unwrap()), hash);
    let key = world.openrouter.account().key(hash).expect("it was made");
    assert!(key.deleted_at.is_none());
    assert_eq!(Some(key.name.as_str()), data["key_name"].as_str());
}
