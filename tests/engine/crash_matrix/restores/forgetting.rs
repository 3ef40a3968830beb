//! Plays a case up to the moment when its snapshot is restored.

use std::sync::PoisonError;

use super::cases::{Case, Meanwhile};
use crate::crash_matrix::LONG_ENOUGH;
use crate::crash_matrix::scenario::Scenario;
use crate::harness::{Forgotten, Harm, World};

/// Returns what storage has forgotten.
pub(super) async fn live_and_forget(world: &World, scenario: Scenario, case: Case) -> Forgotten {
    let kept = world.keep_snapshots();
    world.effects.record(Harm::Crash, case.dies_at());
    let crashed = world.effects.crash_during(scenario.act(world)).await;
    world.effects.stop();
    assert_eq!(crashed, case.dies_at().is_some(), "{scenario:?}, {case:?}");
    match case.meanwhile {
        Meanwhile::End => {}
        Meanwhile::Rest => go_on_reading(world).await,
        Meanwhile::Crash(_) => read_from_a_standby(world).await,
        Meanwhile::Recovery(_) => {
            world.quiet().await;
            world.restart().await;
            go_on_reading(world).await;
        }
    }
    if scenario.is_ruthless() {
        world.forgive_deaths();
    }
    if !matches!(case.meanwhile, Meanwhile::Crash(_)) {
        // Somebody has the newest key, if there is one.
        if scenario.is_about_leases() {
            let _ = world.lease().await;
        } else {
            let _ = world.key("app").await;
        }
    }
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let snapshot = kept.swap_remove(case.snapshot);
    world.restore_all(snapshot).await
}

async fn go_on_reading(world: &World) {
    world.pass(LONG_ENOUGH).await;
    world.revoke_what_is_over().await;
}

/// A standby serves what is stored, while nobody leads.
async fn read_from_a_standby(world: &World) {
    let standby = world.standby().await;
    let answer = standby.read("static-creds/app").await;
    if answer.is_ok_and(|answer| answer.is_some()) {
        world.key_from(&standby, "app").await;
    }
    standby.life.end();
}
