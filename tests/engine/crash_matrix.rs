//! Every scenario, cut off after every one of its effects: nothing is lost, nothing dies early, and
//! nobody has to help.

mod scenario;

use std::fmt::Write;

use serde_json::Value;

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

/// Runs every scenario once for each of its points. Each has a thread, and a runtime, of its own.
fn matrix(harm: Harm) {
    let explore = |scenario| std::thread::spawn(move || explore(scenario, harm));
    let scenarios = Scenario::ALL
        .into_iter()
        .filter(|s| !s.may_give_up_under(harm));
    let runs: Vec<_> = scenarios.map(|s| (s, explore(s))).collect();
    let (mut total, mut wrong, mut table) = (0, Vec::new(), String::new());
    for (scenario, run) in runs {
        let (points, found) = run.join().expect("a scenario runs to its end");
        writeln!(table, "{points:>5}  {scenario:?}").unwrap();
        total += points;
        wrong.extend(found);
    }
    println!(
        "{harm:?} at {total} points, {} violations:\n{table}",
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Returns how many points a scenario has, and what was wrong after harm at each of them.
fn explore(scenario: Scenario, harm: Harm) -> (usize, Vec<String>) {
    let play = |at| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(play(scenario, harm, at))
    };
    let (points, mut wrong) = play(None);
    assert!(!points.is_empty(), "{scenario:?} has no effect");
    for (number, point) in points.iter().enumerate() {
        let (_, found) = play(Some(number));
        let place = format!(
            "{scenario:?}, {harm:?} {number} of {}, {point}",
            points.len()
        );
        wrong.extend(found.into_iter().map(|found| format!("{place}: {found}")));
    }
    (points.len(), wrong)
}

/// Plays a scenario through, and returns its points and what was wrong afterwards.
async fn play(scenario: Scenario, harm: Harm, at: Option<usize>) -> (Vec<String>, Vec<String>) {
    let world = scenario.prepare().await;
    world.effects.record(harm, at);
    let crashed = tokio::select! {
        () = scenario.act(&world) => false,
        () = world.effects.crash() => true,
    };
    let points = world.effects.stop();
    if crashed {
        world.quiet().await;
        world.restart().await;
    }
    let mut wrong = Wrong::default();
    wrong.at_rest(&world, "after it").await;
    if at.is_some() {
        scenario.act(&world).await;
        wrong.at_rest(&world, "after it was repeated").await;
        wrong.note("after it was repeated", world.complaints().await);
    }
    if scenario.is_about_leases() {
        let lease = world.lease().await;
        wrong.note(
            "leasing again",
            lease.err().map(|reason| reason.to_string()),
        );
        wrong.at_rest(&world, "after another lease").await;
        wrong.note("all in all", world.broken_promises());
    } else if !scenario.is_ruthless() {
        let rotated = world.write(ROTATE, Value::Null).await;
        wrong.note(
            "rotating again",
            rotated.err().map(|reason| reason.to_string()),
        );
        wrong.at_rest(&world, "after another rotation").await;
        wrong.note("after another rotation", world.complaints().await);
        wrong.note("all in all", world.broken_promises());
    }
    (points, wrong.0)
}

/// What was wrong, and when.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn note(&mut self, when: &str, found: impl IntoIterator<Item = String>) {
        self.0
            .extend(found.into_iter().map(|found| format!("{when}, {found}")));
    }

    /// Lets everything come to rest, and judges it.
    async fn at_rest(&mut self, world: &World, when: &str) {
        world.pass(LONG_ENOUGH).await;
        world.revoke_what_is_over().await;
        if !world.waiting().await.is_empty() {
            // For the final readings of what has just ended.
            world.pass(FINAL_READING).await;
        }
        self.note(when, world.violations().await);
    }
}

/// In seconds: twice as long as the engine takes to be sure that an order has settled, and half as
/// long as the role's period.
const LONG_ENOUGH: i64 = 1_200;

/// In seconds, after the key was disabled.
const FINAL_READING: i64 = 601;
