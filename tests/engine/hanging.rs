//! OpenRouter accepts connections and never answers, or never ends its answer. Only the callers of these
//! requests wait, and operations that waited long for their turn are as safe as the others.

use std::time::{Duration, Instant};

use futures::future::join_all;
use openrouter_simulator::{Fault, ListDelay};
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::Error;

use crate::harness::{Answer, ROLE, ROTATE, World};

/// A world in which a due rotation hangs.
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
    // From now on time passes only for those who wait for it.
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
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
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    world.node().backend.cleanup().await;
    assert!(begun.elapsed() < Duration::from_secs(2));
    tokio::time::resume();
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
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    world.node().backend.cleanup().await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
    tokio::time::resume();
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

#[tokio::test]
async fn an_order_that_waited_long_for_its_turn_is_looked_for_as_long_as_any() {
    let world = World::with_role().await;
    world.copy_role(8).await;
    world.restart().await;
    world.quiet().await;
    // Eight orders hang. The ninth, which waits for them, gets no answer, and lists lag behind.
    let held = Fault::held().on("POST", "/keys").times(8);
    world.openrouter.faults().add(held);
    let delay = ListDelay::For(Duration::from_secs(20));
    world
        .openrouter
        .account()
        .hide_new_keys_from_lists(Some(delay));
    world.time.set(world.after(3_600));
    world.holding(8).await;
    // Long after the latest time at which an order can take effect, counted from its announcement.
    world.time.set(world.after(1_500));
    world.openrouter.faults().clear();
    let lost = Fault::LostReply.on("POST", "/keys");
    world.openrouter.faults().add(lost);
    world.quiet().await;
    world.pass(900).await;
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn an_answer_without_end_is_given_up_and_leaves_no_doubt_for_long() {
    let world = World::with_role().await;
    // The gate forwards only complete answers.
    let connect = async |url: String| {
        let key = world.openrouter.management_key();
        let body = json!({"management_key": key, "api_url": url});
        world.node().write("config", body).await.unwrap();
    };
    connect(world.openrouter.base_url()).await;
    let endless = |method, path| {
        let rule = Fault::EndlessBody.on(method, path);
        world.openrouter.faults().add(rule);
    };
    // This message means that the answer was given up because of its size, after a few megabytes. An answer
    // that reaches the time limit has a different message.
    endless("POST", "/keys");
    endless("GET", "/keys");
    let answer = world.node().write(ROTATE, Value::Null).await;
    assert!(
        is_bad_gateway(&answer, "the body does not end"),
        "{answer:?}"
    );
    endless("PATCH", "/keys/*");
    let answer = world.node().write(ROLE, json!({"limit": 9})).await;
    let warnings = answer.unwrap().unwrap().warnings.join("; ");
    assert!(warnings.contains("the body does not end"), "{warnings}");
    endless("DELETE", "/keys/*");
    let answer = world.node().delete(ROLE, json!({})).await;
    assert!(
        answer
            .unwrap_err()
            .to_string()
            .contains("the body does not end")
    );
    // Requests over the old connection end with it.
    while world.openrouter.requests().to("GET", "/keys").is_empty() {
        tokio::task::yield_now().await;
    }
    connect(world.gate_url()).await;
    let begun = Instant::now();
    while world.role("app").await.is_some() || !world.intents().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        world.pass(60).await;
    }
    assert!(world.openrouter.account().keys().is_empty());
}

fn is_bad_gateway(answer: &Answer, words: &str) -> bool {
    match answer {
        Err(Error::Status {
            code: 502, message, ..
        }) => message.contains(words),
        _ => false,
    }
}
