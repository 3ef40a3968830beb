//! Every scenario, interrupted after each of its effects: nothing is lost, nothing dies early, and no one has
//! to intervene.

// Everything is test code; saying so lets clippy allow what it allows in tests.
#[cfg(test)]
mod restores;
mod scenario;

use std::fmt::Write;
use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use crate::harness::{Harm, ROTATE, World};
use scenario::Scenario;

#[test]
fn wherever_the_process_dies_its_successor_puts_everything_right() {
    matrix(Harm::Crash);
}

#[test]
fn wherever_storage_or_openrouter_fail_once_the_engine_puts_everything_right() {
    matrix(Harm::Fault);
}

/// Runs every scenario once for each of its points. Each run has its own thread and runtime.
fn matrix(harm: Harm) {
    let explore = |scenario| std::thread::spawn(move || explore(scenario, harm));
    let scenarios = Scenario::ALL
        .into_iter()
        .filter(|s| !s.may_give_up_under(harm));
    let runs: Vec<_> = scenarios.map(|s| (s, explore(s))).collect();
    let count = runs.len();
    let (mut total, mut guarded) = (0, 0);
    let (mut wrong, mut table) = (Vec::new(), String::new());
    for (scenario, run) in runs {
        let explored = run.join().expect("a scenario runs to its end");
        writeln!(table, "{:>5}  {scenario:?}", explored.points).unwrap();
        total += explored.points;
        guarded += explored.guarded;
        wrong.extend(explored.wrong);
    }
    println!(
        "{harm:?} at {total} points of {count} scenarios, {guarded} keys of guarded roles handed out, {} \
         violations:\n{table}",
        wrong.len()
    );
    assert!(
        guarded > 100,
        "{guarded} keys of guarded roles were handed out"
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The outcome of a scenario that was interrupted at each of its points.
struct Explored {
    points: usize,
    /// How many keys of guarded roles were handed out.
    guarded: usize,
    wrong: Vec<String>,
}

fn explore(scenario: Scenario, harm: Harm) -> Explored {
    let play = |at| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(play(scenario, harm, at))
    };
    let Played {
        points,
        mut guarded,
        mut wrong,
    } = play(None);
    assert!(!points.is_empty(), "{scenario:?} has no effect");
    for (number, point) in points.iter().enumerate() {
        let played = play(Some(number));
        guarded += played.guarded;
        let place = format!(
            "{scenario:?}, {harm:?} {number} of {}, {point}",
            points.len()
        );
        let found = played.wrong.into_iter();
        wrong.extend(found.map(|found| format!("{place}: {found}")));
    }
    Explored {
        points: points.len(),
        guarded,
        wrong,
    }
}

/// The outcome of a single run of a scenario.
struct Played {
    points: Vec<String>,
    /// How many keys of guarded roles were handed out.
    guarded: usize,
    wrong: Vec<String>,
}

async fn play(scenario: Scenario, harm: Harm, at: Option<usize>) -> Played {
    let world = timeout(HANGS_AFTER, scenario.prepare()).await;
    let world = world.unwrap_or_else(|_| panic!("{scenario:?} does not begin"));
    let played = timeout(HANGS_AFTER, play_in(&world, scenario, harm, at)).await;
    played.unwrap_or_else(|_| {
        let story = world.effects.story().join("\n");
        panic!("{scenario:?}, {harm:?} {at:?}, does not end:\n{story}")
    })
}

async fn play_in(world: &World, scenario: Scenario, harm: Harm, at: Option<usize>) -> Played {
    world.effects.record(harm, at);
    let crashed = world.effects.crash_during(scenario.act(world)).await;
    let points = world.effects.stop();
    if crashed {
        world.quiet().await;
        world.restart().await;
    }
    let mut wrong = Wrong::default();
    wrong.at_rest(world, "after it").await;
    go_on(world, scenario, at.is_some(), &mut wrong).await;
    Played {
        points,
        guarded: world.guarded_hand_outs(),
        wrong: wrong.0,
    }
}

/// What comes next, after everything was put right: the scenario once more, unless it was whole, and something
/// else of its kind.
async fn go_on(world: &World, scenario: Scenario, is_repeated: bool, wrong: &mut Wrong) {
    if is_repeated {
        scenario.act(world).await;
        wrong.at_rest(world, "after it was repeated").await;
        wrong.note("after it was repeated", world.complaints().await);
    }
    if scenario.is_about_leases() {
        let lease = world.lease().await;
        wrong.note(
            "leasing again",
            lease.err().map(|reason| reason.to_string()),
        );
        wrong.at_rest(world, "after another lease").await;
        wrong.note("all in all", world.broken_promises());
    } else if !scenario.is_ruthless() {
        let rotated = world.write(ROTATE, Value::Null).await;
        wrong.note(
            "rotating again",
            rotated.err().map(|reason| reason.to_string()),
        );
        wrong.at_rest(world, "after another rotation").await;
        wrong.note("after another rotation", world.complaints().await);
        wrong.note("all in all", world.broken_promises());
    }
}

/// What was wrong, and when.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn note(&mut self, when: &str, found: impl IntoIterator<Item = String>) {
        self.0
            .extend(found.into_iter().map(|found| format!("{when}, {found}")));
    }

    /// Waits until nothing more happens, and judges the result.
    async fn at_rest(&mut self, world: &World, when: &str) {
        world.pass(LONG_ENOUGH).await;
        world.revoke_what_is_over().await;
        if !world.waiting().await.is_empty() {
            // For the final readings of keys that have just ended.
            world.pass(FINAL_READING).await;
        }
        self.note(when, world.violations().await);
    }
}

/// In seconds: twice as long as the engine takes to be sure that an order has settled, and half as long as
/// the role's period.
const LONG_ENOUGH: i64 = 1_200;

/// In seconds, after the key was disabled.
const FINAL_READING: i64 = 601;

/// In real time. A run takes a second of it. Without a limit, a run that hangs would not say which one it is.
const HANGS_AFTER: Duration = Duration::from_secs(15 * 60);
