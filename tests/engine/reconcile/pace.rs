//! How far apart comparisons are.

use openrouter_simulator::{Fault, KeyChanges};
use serde_json::json;

use super::{HOUR, change, drift, found, monthly};
use crate::harness::{CI, World};

/// Connections that started together would otherwise always be compared together.
#[tokio::test]
async fn an_interval_is_up_to_a_tenth_shorter_by_chance() {
    let world = monthly(json!({})).await;
    world.restart().await;
    world.quiet().await;
    world.openrouter.requests().reset();
    let begun = world.time.now();
    world.pass(12 * HOUR).await;
    let lists = world.openrouter.requests().to("GET", "/keys");
    let times = std::iter::once(begun).chain(lists.iter().map(|list| list.at));
    let times: Vec<_> = times.map(|at| at.as_second()).collect();
    let gaps: Vec<_> = times.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(gaps.len() >= 12, "{gaps:?}");
    assert!(
        gaps.iter().all(|gap| (HOUR * 9 / 10..=HOUR).contains(gap)),
        "{gaps:?}"
    );
    assert!(gaps.iter().any(|gap| *gap < HOUR * 97 / 100), "{gaps:?}");
    assert!(gaps.iter().any(|gap| *gap > HOUR * 93 / 100), "{gaps:?}");
}

/// A role in the default workspace, and another one in a workspace whose id is returned.
async fn with_two_places() -> (World, String) {
    let world = monthly(json!({})).await;
    let workspace = world.openrouter.account().add_workspace();
    let body = json!({"credential_type": "dynamic", "workspace_id": workspace});
    world.write(CI, body).await.unwrap();
    world.restart().await;
    world.quiet().await;
    world.openrouter.requests().reset();
    (world, workspace)
}

/// How often the default workspace was listed, and the other one.
fn lists(world: &World, workspace: &str) -> [usize; 2] {
    let lists = world.openrouter.requests().to("GET", "/keys");
    let is_there = |query: &Option<String>| query.as_ref().is_some_and(|q| q.contains(workspace));
    let there = lists.iter().filter(|list| is_there(&list.query)).count();
    [lists.len() - there, there]
}

/// It was deleted, for example. The others are not compared each time that it is tried again.
#[tokio::test]
async fn while_a_place_cannot_be_listed_the_others_are_compared_about_once_an_interval() {
    let (world, workspace) = with_two_places().await;
    let account = world.openrouter.account();
    account.delete_workspace(&workspace).unwrap();
    world.pass(24 * HOUR).await;
    let [listed, failed] = lists(&world, &workspace);
    assert!((12..=23).contains(&listed), "{listed} in a day");
    assert!((24..=70).contains(&failed), "{failed} tries in a day");
}

#[tokio::test]
async fn the_others_are_compared_again_when_the_interval_has_just_ended() {
    let (world, workspace) = with_two_places().await;
    let busy = Fault::rate_limited(HOUR.cast_unsigned()).on("GET", "/keys");
    world.openrouter.faults().add(busy.nth(2));
    let begun = world.time.now();
    world.restart().await;
    world.quiet().await;
    assert_eq!(lists(&world, &workspace), [1, 1]);
    world.pass(HOUR).await;
    assert_eq!(world.after(-HOUR), begun);
    assert_eq!(lists(&world, &workspace), [2, 2]);
}

/// What was changed at OpenRouter before the time that is shown was found.
#[tokio::test]
async fn the_time_of_a_comparison_is_when_its_first_place_was_compared() {
    let (world, workspace) = with_two_places().await;
    let busy = Fault::rate_limited(1_800).on("GET", "/keys");
    world.openrouter.faults().add(busy.nth(2));
    let begun = world.time.now();
    world.restart().await;
    world.quiet().await;
    let shown = async || {
        let connection = world.read("config").await.unwrap().unwrap();
        connection.data["last_reconciliation"].clone()
    };
    assert_eq!(shown().await, json!(null));
    world.pass(1_900).await;
    assert_eq!(lists(&world, &workspace), [1, 2]);
    assert_eq!(shown().await, begun.to_string());
}

/// The engine does not know yet where the keys of that role are.
#[tokio::test]
async fn a_role_that_could_not_be_read_when_the_work_began_is_compared_as_soon_as_it_can_be() {
    let world = monthly(json!({})).await;
    let hash = world.current().await;
    world.node().life.end();
    let raised = KeyChanges {
        limit: Some(Some(500.0)),
        ..KeyChanges::default()
    };
    change(&world, &hash, raised);
    world.effects.lose_reads_of(Some("roles/app"));
    world.restart().await;
    world.quiet().await;
    world.effects.lose_reads_of(None);
    world.pass(60).await;
    assert_eq!(drift(&world, "app").await, found("limits_changed", &hash));
    assert_eq!(world.violations().await, [""; 0]);
}
