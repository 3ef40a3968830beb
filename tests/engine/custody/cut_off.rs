//! Runs that delete, interrupted after each of their effects, by a crash or by a fault. Runs that rotate are
//! in the crash matrix.

use serde_json::{Value, json};

use crate::harness::{FORGET, Harm, ROTATE, World, role};

#[test]
fn an_interrupted_teardown_leaves_no_key_alive_and_can_be_cancelled() {
    for harm in [Harm::Crash, Harm::Fault] {
        explore(harm, |at| Box::pin(tear_down(harm, at)));
    }
}

#[test]
fn a_removal_that_is_cut_off_removes_what_was_listed_and_nothing_else() {
    for harm in [Harm::Crash, Harm::Fault] {
        explore(harm, |at| Box::pin(tidy(harm, at)));
    }
}

type Played = std::pin::Pin<Box<dyn Future<Output = Vec<String>>>>;

/// Runs it once undisturbed, and once for each of its points.
fn explore(harm: Harm, play: impl Fn(Option<usize>) -> Played) {
    let run = |at| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(play(at))
    };
    let points = run(None);
    assert!(points.len() > 5, "{points:?}");
    for (number, point) in points.iter().enumerate() {
        println!("{harm:?} at {point}");
        run(Some(number));
    }
    println!("{harm:?} at {} points", points.len());
}

/// Starts this run with an interruption. After a crash, another node has taken over. Returns the points.
async fn harmed(
    world: &World,
    harm: Harm,
    at: Option<usize>,
    path: &str,
    body: Value,
) -> Vec<String> {
    world.effects.record(harm, at);
    let written = async {
        let _ = world.write(path, body).await;
        world.quiet().await;
    };
    let crashed = world.effects.crash_during(written).await;
    let points = world.effects.stop();
    if crashed {
        world.quiet().await;
        world.restart().await;
    }
    points
}

async fn tear_down(harm: Harm, at: Option<usize>) -> Vec<String> {
    let world = World::with_role().await;
    world.write(ROTATE, Value::Null).await.unwrap();
    let dynamic = json!({"credential_type": "dynamic", "ttl": 300, "max_ttl": 3600});
    world.write("roles/ci", dynamic).await.unwrap();
    world.lease().await.unwrap();
    world.pass(60).await;
    let points = harmed(&world, harm, at, "teardown", json!({})).await;
    world.pass(600).await;
    let shown = world.read("teardown").await.unwrap();
    let was_ordered = shown.is_some();
    if let Some(run) = &shown {
        assert_eq!(run.data["state"], "finished", "by itself");
        assert_eq!(run.data["left_alive"], json!({}));
    } else {
        world.key("app").await.unwrap();
        world.write("teardown", json!({})).await.unwrap();
        world.pass(600).await;
    }
    assert!(was_ordered || at.is_some());
    assert_eq!(world.openrouter.account().keys().len(), 0);
    world.revoke().await.unwrap();
    assert_eq!(world.intents(), [""; 0]);
    world.delete("teardown", Value::Null).await.unwrap();
    world.pass(1_200).await;
    assert_eq!(world.violations().await, [""; 0]);
    points
}

async fn tidy(harm: Harm, at: Option<usize>) -> Vec<String> {
    let world = World::with_role().await;
    for _ in 0..2 {
        world
            .write(FORGET, json!({"revoke_keys": false}))
            .await
            .unwrap();
        world.write("roles/app", role()).await.unwrap();
    }
    let told = world
        .write("tidy/default", json!({}))
        .await
        .unwrap()
        .unwrap();
    let listed = told.data["keys"].as_array().unwrap().len();
    assert_eq!(listed, 2);
    // Not listed.
    world
        .write(FORGET, json!({"revoke_keys": false}))
        .await
        .unwrap();
    world.write("roles/app", role()).await.unwrap();
    world.pass(60).await;
    let body = json!({"dry_run": false});
    let points = harmed(&world, harm, at, "tidy/default", body.clone()).await;
    world.pass(600).await;
    let run = world.read("tidy/default").await.unwrap().unwrap();
    assert_eq!(run.data["state"], "finished", "by itself");
    if run.data["dry_run"] == json!(true) {
        assert!(at.is_some());
        world.write("tidy/default", body).await.unwrap();
    }
    let living = world.openrouter.account().keys().len();
    assert_eq!(
        living, 2,
        "the current key, and the one that was not listed"
    );
    world.key("app").await.unwrap();
    points
}
