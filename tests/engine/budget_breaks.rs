//! What breaks the promise of a budget: each of these fails until it is cured. See /tmp/w/break17.md.

use openrouter_simulator::Fault;
use serde_json::json;

use crate::budget::{current, limits, spend, with_budget};
use crate::harness::{ROLE, ROTATE, World};

fn lag(world: &World) {
    world
        .openrouter
        .billing()
        .change(|rules| rules.reporting_lag_seconds = 300);
}


/// Not known everywhere yet: the engine waits for that when it proves a key, not when it raises it.
#[tokio::test]
async fn a_new_key_that_is_not_found_when_it_is_raised_takes_over_without_money_for_ever() {
    let world = with_budget().await;
    let unknown = Fault::status(404).on("PATCH", "/keys/*").nth(2);
    world.openrouter.faults().add(unknown);
    drop(world.write(ROTATE, json!({})).await);
    world.pass(2 * 86_400).await;
    assert_eq!(limits(&world), [(100.0, false)]);
}

/// The kill switch, and then a new key: the reports that stand in for the key's own word lag behind.
#[tokio::test]
async fn what_a_disabled_key_spent_last_is_spent_again_by_its_successor() {
    let world = with_budget().await;
    lag(&world);
    let old = current(&world).await;
    spend(&world, &old, 90.0);
    let path = format!("disable-key/default/{old}");
    let body = json!({"disabled": true, "force": true});
    world.write(&path, body).await.unwrap();
    world.write(ROTATE, json!({})).await.unwrap();
    let new = current(&world).await;
    assert_ne!(new, old);
    let both = 90.0 + spend(&world, &new, 500.0);
    assert!(both <= 101.0, "{both} of 100");
}

/// `GET /key` without `budgets`: the reports stand in.
#[tokio::test]
async fn where_openrouter_tells_no_budgets_the_lag_of_its_reports_is_spent_again() {
    let world = with_budget().await;
    lag(&world);
    let old = current(&world).await;
    spend(&world, &old, 90.0);
    let bare = Fault::edited_reply(json!({"budgets": []})).on("GET", "/key");
    world.openrouter.faults().add(bare);
    world.write(ROTATE, json!({})).await.unwrap();
    let new = current(&world).await;
    let both = 90.0 + spend(&world, &old, 500.0) + spend(&world, &new, 500.0);
    assert!(both <= 101.0, "{both} of 100");
}

/// The comparison raises without storing it before, and without proving that it may still write.
#[tokio::test]
async fn a_deposed_leaders_comparison_raises_a_key_that_its_successor_has_lowered() {
    let world = with_budget().await;
    world.write("roles/other", json!({"limit": 1})).await.unwrap();
    let body = json!({"reconcile_interval": 60});
    world.write("config", body).await.unwrap();
    world.quiet().await;
    let old = world.node();
    old.storage.deposed_when_putting("roles/other");
    let body = json!({"description": "unheard"});
    old.write("roles/other", body).await.unwrap_err();
    old.life.quiet().await;
    world.take_over().await;
    world.quiet().await;
    world.write(ROLE, json!({"budget": 20})).await.unwrap();
    assert_eq!(limits(&world)[0], (20.0, false));
    // The old leader's next comparison comes before anybody has told it.
    let raises = || world.openrouter.requests().to("PATCH", "/keys/*").len();
    let before = raises();
    world.time.set(world.after(60));
    old.life.quiet().await;
    world.quiet().await;
    assert_eq!(raises(), before, "{:?}", limits(&world));
}

#[tokio::test]
async fn after_a_restore_the_comparison_raises_the_old_key_beside_the_living_new_one() {
    let world = with_budget().await;
    let old = current(&world).await;
    spend(&world, &old, 40.0);
    let snapshot = world.snapshot().await;
    world.write(ROTATE, json!({})).await.unwrap();
    assert_eq!(limits(&world), [(46.0, false), (54.0, false)]);
    world.restore(snapshot).await;
    world.openrouter.requests().reset();
    world.restart().await;
    world.quiet().await;
    let raises: Vec<_> = world
        .openrouter
        .requests()
        .to("PATCH", "/keys/*")
        .into_iter()
        .filter_map(|request| request.body)
        .filter(|body| body["limit"] == json!(100.0) || body["limit"] == json!(100))
        .collect();
    assert!(raises.is_empty(), "while the new key may spend 54: {raises:?}");
}

#[tokio::test]
async fn a_superseded_key_that_is_gone_when_a_budget_is_written_locks_the_role_for_ever() {
    let world = World::connected().await;
    let body = json!({"rotation_period": "30d", "rotation_grace_period": 3_600, "ttl": 300});
    world.write(ROLE, body).await.unwrap();
    let old = current(&world).await;
    world.write(ROTATE, json!({})).await.unwrap();
    world.openrouter.account().delete_key(&old).unwrap();
    world.write(ROLE, json!({"budget": 50})).await.unwrap();
    world.pass(3 * 86_400).await;
    assert_ne!(limits(&world).last().unwrap().0, 0.0);
}

#[tokio::test]
async fn a_budget_for_a_role_without_a_limit_stops_its_current_key_for_ten_minutes() {
    let world = World::connected().await;
    let body = json!({"rotation_period": "30d", "rotation_grace_period": 3_600, "ttl": 300});
    world.write(ROLE, body).await.unwrap();
    world.write(ROTATE, json!({})).await.unwrap();
    world.write(ROLE, json!({"budget": 50})).await.unwrap();
    assert!(limits(&world)[1].0 > 0.0, "{:?}", limits(&world));
}

/// The reset is noticed late, since the current key could not be read; meanwhile an older key ends that
/// has spent in the new window.
#[tokio::test]
async fn what_a_key_spent_that_ended_before_the_reset_was_noticed_is_spent_again() {
    let world = with_budget().await;
    let old = current(&world).await;
    spend(&world, &old, 90.0);
    world.pass_until("2026-11-20T23:01:00Z").await;
    world.write(ROTATE, json!({})).await.unwrap();
    assert_eq!(limits(&world), [(91.0, false), (9.0, false)]);
    let away = Fault::status(500).on("GET", "/key");
    world.openrouter.faults().add(away);
    world.pass_until("2026-11-21T00:00:30Z").await;
    let first = spend(&world, &old, 500.0);
    assert!(first > 90.0);
    world.pass_until("2026-11-21T00:15:00Z").await;
    world.openrouter.faults().clear();
    world.pass_until("2026-11-21T02:00:00Z").await;
    let both = first + spend(&world, &current(&world).await, 500.0);
    assert!(both <= 101.0, "{both} of 100");
}

#[tokio::test]
async fn a_clock_that_was_ahead_for_a_moment_puts_the_reset_off_for_as_long() {
    let world = with_budget().await;
    let old = current(&world).await;
    spend(&world, &old, 60.0);
    let body = json!({"rotation_grace_period": 0});
    world.write(ROTATE, body).await.unwrap();
    world.pass(601).await;
    assert_eq!(limits(&world), [(40.0, false)]);
    let (now, ahead) = (world.time.now(), world.after(10 * 86_400));
    world.time.set(ahead);
    world.openrouter.clock().set(now);
    world.node().tick().await.unwrap();
    world.quiet().await;
    world.time.set(now);
    world.openrouter.clock().set(now);
    world.pass(3 * 86_400).await;
    assert_eq!(limits(&world), [(100.0, false)]);
}

#[tokio::test]
async fn a_longer_window_forgets_what_ended_keys_have_spent_in_it() {
    let world = with_budget().await;
    let old = current(&world).await;
    spend(&world, &old, 80.0);
    let body = json!({"rotation_grace_period": 0});
    world.write(ROTATE, body).await.unwrap();
    world.pass(86_400).await;
    let body = json!({"budget_reset": "monthly"});
    world.write(ROLE, body).await.unwrap();
    world.pass(1_300).await;
    let usage = world.read("usage/app").await.unwrap().unwrap().data;
    assert_eq!(usage["spent_month"], json!(80.0));
    assert_eq!(
        (limits(&world), &usage["remaining"]),
        (vec![(20.0, false)], &json!(20.0))
    );
}

#[tokio::test]
async fn a_longer_window_forgets_what_a_held_key_has_spent_in_it() {
    let world = with_budget().await;
    let body = json!({"revocation_hold": "20d"});
    world.write(ROLE, body).await.unwrap();
    let old = current(&world).await;
    spend(&world, &old, 80.0);
    let body = json!({"rotation_grace_period": 0});
    world.write(ROTATE, body).await.unwrap();
    world.pass(2 * 3_600).await;
    world.pass_until("2026-11-21T12:00:00Z").await;
    let body = json!({"budget_reset": "monthly"});
    world.write(ROLE, body).await.unwrap();
    world.pass(1_300).await;
    assert_eq!(limits(&world)[1], (20.0, false));
}

/// Its old limit holds until the call arrives; what it spends by then is taken for unspent.
#[tokio::test]
async fn what_a_key_spends_while_the_call_that_lowers_it_hangs_is_spent_again() {
    let world = with_budget().await;
    lag(&world);
    let old = current(&world).await;
    spend(&world, &old, 40.0);
    let held = Fault::held().on("PATCH", "/keys/*");
    world.openrouter.faults().add(held);
    let node = world.node();
    let rotation = tokio::spawn(async move { node.write(ROTATE, json!({})).await.map(drop) });
    while world.openrouter.faults().held() < 1 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    world.time.set(world.after(20));
    let first = 40.0 + spend(&world, &old, 50.0);
    world.openrouter.faults().clear();
    rotation.await.unwrap().unwrap();
    let both = first + spend(&world, &current(&world).await, 500.0);
    assert!(both <= 101.0, "{both} of 100");
}

#[tokio::test]
async fn an_emergency_under_a_budget_waits_behind_eight_hanging_requests() {
    let world = std::sync::Arc::new(with_budget().await);
    let body = json!({"credential_type": "dynamic"});
    world.write("roles/ci", body).await.unwrap();
    let held = Fault::held().on("POST", "/keys").times(8);
    world.openrouter.faults().add(held);
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let node = world.node();
        readers.spawn(async move { drop(node.read("creds/ci").await) });
    }
    while world.openrouter.faults().held() < 8 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let node = world.node();
    let body = json!({"rotation_grace_period": 0});
    let emergency = node.write(ROTATE, body);
    let patience = std::time::Duration::from_secs(20);
    let came = tokio::time::timeout(patience, emergency).await;
    came.expect("it waits for nothing").unwrap();
}

/// The same amount could be asked for again at once: it is counted already.
#[tokio::test]
async fn one_bad_gateway_in_an_emergency_leaves_the_role_without_money_for_ten_minutes() {
    let world = with_budget().await;
    let bad = Fault::status(502).on("PATCH", "/keys/*").nth(2);
    world.openrouter.faults().add(bad);
    let body = json!({"rotation_grace_period": 0});
    world.write(ROTATE, body).await.unwrap();
    world.pass(120).await;
    assert_eq!(limits(&world).last().unwrap(), &(100.0, false));
}

#[tokio::test]
async fn a_key_that_was_ordered_to_be_revoked_can_be_enabled_and_spends_uncounted() {
    let world = with_budget().await;
    lag(&world);
    let old = current(&world).await;
    spend(&world, &old, 40.0);
    world.write(ROTATE, json!({})).await.unwrap();
    let path = format!("revoke-key/default/{old}");
    world.write(&path, json!({"force": true})).await.unwrap();
    world.pass(590).await;
    let path = format!("disable-key/default/{old}");
    drop(world.write(&path, json!({"disabled": false})).await);
    let old_spent = 40.0 + spend(&world, &old, 500.0);
    world.pass(1_300).await;
    let both = old_spent + spend(&world, &current(&world).await, 500.0);
    assert!(both <= 101.0, "{both} of 100");
}

/// A key whose connection does not work any more holds up all that is to be done about the others.
#[tokio::test]
async fn one_key_that_cannot_be_read_keeps_the_money_of_another_locked() {
    let world = with_budget().await;
    let first = current(&world).await;
    spend(&world, &first, 10.0);
    world.write(ROTATE, json!({})).await.unwrap();
    let second = current(&world).await;
    world.pass(60).await;
    world.write(ROTATE, json!({})).await.unwrap();
    // Both are disabled by and by; the first cannot be read.
    let unreadable = Fault::status(403).on("GET", &format!("/keys/{first}"));
    world.openrouter.faults().add(unreadable);
    world.pass(3 * 3_600).await;
    assert_ne!(second, first);
    // 100 less the 10 that the first has spent and its share of 9.
    assert_eq!(limits(&world).last().unwrap(), &(81.0, false));
}

/// It was known before the reset that it is gone, and it counts in full in the window after it.
#[tokio::test]
async fn a_key_that_was_gone_before_the_reset_locks_the_window_after_it() {
    let world = with_budget().await;
    let old = current(&world).await;
    world.pass_until("2026-11-20T23:30:00Z").await;
    world.openrouter.account().delete_key(&old).unwrap();
    world.restart().await;
    world.quiet().await;
    assert_ne!(current(&world).await, old, "it was replaced before the reset");
    world.pass_until("2026-11-21T12:00:00Z").await;
    assert_eq!(limits(&world), [(100.0, false)]);
}

/// One report of a moment after the reset that still says what was spent before it.
#[tokio::test]
async fn one_report_that_is_late_over_the_reset_locks_the_money_for_the_whole_window() {
    let world = with_budget().await;
    let old = current(&world).await;
    spend(&world, &old, 60.0);
    world.pass_until("2026-11-20T23:30:00Z").await;
    world.write(ROTATE, json!({})).await.unwrap();
    world.pass_until("2026-11-21T00:00:30Z").await;
    let late = Fault::edited_reply(json!({"usage_daily": 60.0})).on("PATCH", "/keys/*");
    world.openrouter.faults().add(late.nth(1));
    world.pass_until("2026-11-21T12:00:00Z").await;
    assert_eq!(limits(&world), [(100.0, false)]);
}
