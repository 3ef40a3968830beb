//! How far apart comparisons are.

use serde_json::json;

use super::{HOUR, monthly};

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
