//! Every scenario, and then each snapshot that could be taken during it is restored: when the scenario is over,
//! when readers have gone on for a while, and after a crash in between. Whatever storage has forgotten, no key
//! dies early, none is left without an owner, and the role works.

mod aftermath;
mod cases;
mod forgetting;

use std::fmt::Write;

use serde_json::json;
use tokio::time::timeout;

use super::scenario::Scenario;
use super::{FINAL_READING, HANGS_AFTER, Wrong, go_on};
use crate::harness::{CI, Harm, World};
use aftermath::{Strangers, lease_again, tidy};
use cases::Case;
use forgetting::live_and_forget;

#[test]
fn whichever_snapshot_of_it_is_restored_the_engine_puts_everything_right() {
    matrix(SAMPLED);
}

#[test]
#[ignore = "it takes minutes"]
fn whichever_snapshot_of_it_is_restored_whenever_the_engine_puts_everything_right() {
    matrix(1);
}

/// Runs one case in so many of each scenario, whose numbers differ from one scenario to the next. Each scenario
/// has a thread, and a runtime, of its own.
fn matrix(one_in: usize) {
    let explore = |(number, scenario)| {
        let run = std::thread::spawn(move || explore(scenario, number % one_in, one_in));
        (scenario, run)
    };
    let scenarios = Scenario::ALL.into_iter().enumerate();
    let runs: Vec<_> = scenarios.map(explore).collect();
    let (mut snapshots, mut restores) = (0, 0);
    let (mut wrong, mut table) = (Vec::new(), String::new());
    for (scenario, run) in runs {
        let explored = run.join().expect("a scenario runs to its end");
        let (of_it, cases) = (explored.snapshots, explored.cases);
        writeln!(table, "{of_it:>5} {cases:>5}  {scenario:?}").unwrap();
        snapshots += of_it;
        restores += cases;
        wrong.extend(explored.wrong);
    }
    println!(
        "{restores} restores of {snapshots} snapshots, {} violations:\n{table}",
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What came of a scenario, with each of its cases.
struct Explored {
    snapshots: usize,
    cases: usize,
    wrong: Vec<String>,
}

fn explore(scenario: Scenario, first: usize, one_in: usize) -> Explored {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let points = runtime.block_on(async {
        let world = scenario.prepare().await;
        world.effects.record(Harm::Crash, None);
        scenario.act(&world).await;
        world.effects.stop()
    });
    let mut cases = Case::all(&points);
    let snapshots = 1 + cases.last().map_or(0, |case| case.snapshot);
    cases = cases.into_iter().skip(first).step_by(one_in).collect();
    let mut wrong = Vec::new();
    for case in &cases {
        let found = runtime.block_on(play(scenario, *case)).into_iter();
        let place = format!("{scenario:?}, {case:?} of {}", points.len());
        let place = match case.dies_at() {
            Some(at) => format!("{place}, {}", points[at]),
            None => place,
        };
        wrong.extend(found.map(|found| format!("{place}: {found}")));
    }
    Explored {
        snapshots,
        cases: cases.len(),
        wrong,
    }
}

/// What was wrong when this was played.
async fn play(scenario: Scenario, case: Case) -> Vec<String> {
    let world = timeout(HANGS_AFTER, scenario.prepare()).await;
    let world = world.unwrap_or_else(|_| panic!("{scenario:?} does not begin"));
    let played = timeout(HANGS_AFTER, play_in(&world, scenario, case)).await;
    played.unwrap_or_else(|_| {
        let story = world.effects.story().join("\n");
        panic!("{scenario:?}, {case:?}, does not end:\n{story}")
    })
}

async fn play_in(world: &World, scenario: Scenario, case: Case) -> Vec<String> {
    let strangers = Strangers::come_to(world);
    let forgotten = live_and_forget(world, scenario, case).await;
    world.restart().await;
    world.quiet().await;
    // Until it has compared, the engine cannot know what else was changed.
    world.forgive_unguarded();
    let mut wrong = Wrong::default();
    if scenario.is_about_budgets() {
        // The outcome of a change of limits that was under way is unknown for so long.
        world.pass(FINAL_READING).await;
    }
    wrong.at_rest(world, "after it was restored").await;
    wrong.note("after it was restored", world.broken_promises());
    wrong.note("tidying up", tidy(world, &forgotten).await);
    if scenario.is_about_budgets_of_leases() && !forgotten.ended.is_empty() {
        // What these have spent nobody knows, so they count with their full limits.
        let lost = forgotten.ended.len();
        let body = json!({"budget": 1.3 + lost as f64});
        world.write(CI, body).await.unwrap();
    }
    if scenario.is_ruthless() {
        world.forgive_deaths();
    }
    go_on(world, scenario, true, &mut wrong).await;
    if !forgotten.ended.is_empty() {
        // What these have spent nobody knows, so they count with their full limits.
        wrong
            .0
            .retain(|found| !found.contains("the role's budget is spent"));
    }
    if scenario.is_about_leases() && !scenario.is_about_budgets_of_leases() {
        wrong.note("in the end", lease_again(world).await);
    }
    wrong.note("in the end", strangers.touched(world));
    wrong.0
}

/// One case in so many is enough for every run of the tests.
const SAMPLED: usize = 4;
