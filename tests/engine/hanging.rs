//! OpenRouter takes connections and never answers: nobody but those who asked for it waits.

use std::time::{Duration, Instant};

use futures::future::join_all;
use openrouter_simulator::Fault;
use serde_json::json;

use crate::harness::World;

/// A world in which a rotation was due, and hangs.
async fn hanging() -> World {
    let world = World::with_role().await;
    let slow = Fault::Slow {
        milliseconds: 600_000,
        after_effect: false,
    };
    world.openrouter.faults().add(slow.on_anything().forever());
    world.time.set(world.after(3_600));
    while world.orders() < 2 {
        tokio::task::yield_now().await;
    }
    world
}

#[tokio::test]
async fn the_servers_call_and_every_read_return_at_once_while_a_rotation_hangs() {
    let world = hanging().await;
    let begun = Instant::now();
    for _ in 0..10 {
        world.node().tick().await.unwrap();
        assert_eq!(world.version().await, 1);
        world.role("app").await.unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_mount_goes_away_within_a_second_or_two_while_a_creation_hangs() {
    let world = hanging().await;
    let begun = Instant::now();
    world.node().backend.cleanup().await;
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(
        world.intents().len(),
        1,
        "the next process finds out what came of it"
    );
    world.openrouter.faults().clear();
    world.restart().await;
    world.pass(900).await;
    assert_eq!(world.violations().await, [""; 0]);
    assert_eq!(world.version().await, 2);
}

#[tokio::test]
async fn a_mount_that_is_idle_goes_away_at_once() {
    let world = World::with_role().await;
    let begun = Instant::now();
    world.node().backend.cleanup().await;
    assert!(begun.elapsed() < Duration::from_millis(900));
    world.time.set(world.after(7_200));
    world.quiet().await;
    assert_eq!(world.orders(), 1, "and does nothing any more");
}

#[tokio::test]
async fn whoever_gives_up_while_waiting_for_a_turn_has_cost_nothing() {
    let world = World::connected().await;
    let slow = Fault::Slow {
        milliseconds: 600_000,
        after_effect: false,
    };
    world
        .openrouter
        .faults()
        .add(slow.on("POST", "/keys").forever());
    let node = &world.node();
    let create = |number| async move {
        let role = format!("roles/r{number}");
        node.write(&role, json!({})).await
    };
    let eight = join_all((0..8).map(create));
    tokio::pin!(eight);
    let first_eight_hang = async {
        while world.orders() < 8 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = &mut eight => panic!("nobody answers them"),
        () = first_eight_hang => {}
    }
    let enough_to_come_that_far = async {
        for _ in 0..2_000 {
            tokio::task::yield_now().await;
        }
    };
    let others_give_up = async {
        tokio::select! {
            _ = join_all((8..30).map(create)) => panic!("they get no turn"),
            () = enough_to_come_that_far => {}
        }
    };
    tokio::select! {
        _ = &mut eight => panic!("nobody answers them"),
        () = others_give_up => {}
    }
    for _ in 0..2_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.intents().len(), 8);
    assert_eq!(world.orders(), 8);
    assert!(world.openrouter.requests().to("GET", "/keys").is_empty());
}
