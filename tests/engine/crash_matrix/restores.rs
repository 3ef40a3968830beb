//! Every scenario, and then each snapshot that could be taken during it is restored: when the scenario is over,
//! when readers have gone on for a while, and after a crash in between. Whatever storage has forgotten, no key
//! dies early, none is left without an owner, and the role works.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::PoisonError;

use openrouter_simulator::{Key, NewKey};
use serde_json::json;
use tokio::time::timeout;

use super::scenario::Scenario;
use super::{FINAL_READING, HANGS_AFTER, LONG_ENOUGH, Wrong, go_on};
use crate::harness::{CI, Forgotten, Harm, World};

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

/// What happens after a snapshot was taken, before it is restored.
#[derive(Clone, Copy, Debug)]
enum Meanwhile {
    /// The scenario ends.
    End,
    /// It ends, and readers go on until everything has come to rest.
    Rest,
    /// The process dies at this point. A standby serves readers.
    Crash(usize),
    /// The process dies at this point, and readers go on while its successor puts everything right.
    Recovery(usize),
}

/// A snapshot, by how many writes were made before it, and what happens before it is restored.
#[derive(Clone, Copy, Debug)]
struct Case {
    snapshot: usize,
    meanwhile: Meanwhile,
}

impl Case {
    /// Those of a scenario with these points. Of the crashes after a snapshot there are those at its own write,
    /// at the next one, and at the last point.
    fn all(points: &[String]) -> Vec<Self> {
        let is_write =
            |name: &str| name.starts_with("after put ") || name.starts_with("after delete ");
        let numbered = points.iter().enumerate();
        let writes: Vec<usize> = numbered
            .filter(|(_, name)| is_write(name))
            .map(|(number, _)| number)
            .collect();
        let last = points.len() - 1;
        let mut cases = Vec::new();
        for snapshot in 0..=writes.len() {
            let mut add = |meanwhile| {
                cases.push(Self {
                    snapshot,
                    meanwhile,
                });
            };
            add(Meanwhile::Rest);
            if let Some(own) = snapshot.checked_sub(1) {
                add(Meanwhile::Recovery(writes[own]));
            }
            let Some(&next) = writes.get(snapshot) else {
                continue;
            };
            add(Meanwhile::End);
            add(Meanwhile::Crash(next));
            add(Meanwhile::Recovery(next));
            if next < last {
                add(Meanwhile::Crash(last));
            }
        }
        cases
    }

    fn dies_at(self) -> Option<usize> {
        match self.meanwhile {
            Meanwhile::End | Meanwhile::Rest => None,
            Meanwhile::Crash(at) | Meanwhile::Recovery(at) => Some(at),
        }
    }
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

/// Plays up to the restored snapshot.
async fn live_and_forget(world: &World, scenario: Scenario, case: Case) -> Forgotten {
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

/// The strays are as they were, and a person can find and remove them.
async fn tidy(world: &World, forgotten: &Forgotten) -> Vec<String> {
    if forgotten.strays.is_empty() {
        return Vec::new();
    }
    let state = |key: &Key| (key.disabled, key.deleted_at);
    let ended = forgotten.strays.iter();
    let ended = ended.filter(|key| state(&world.seen(&key.hash)) != state(key));
    let mut wrong: Vec<String> = ended
        .map(|key| format!("the stray {} was ended", key.hash))
        .collect();
    let strays: BTreeSet<&str> = forgotten.strays.iter().map(|key| &*key.hash).collect();
    let tidied = world.write("tidy/default", json!({})).await;
    let listed = tidied.unwrap().expect("there is an answer").data;
    let keys = listed["keys"].as_array().into_iter().flatten();
    let found: BTreeSet<&str> = keys.filter_map(|key| key["key_hash"].as_str()).collect();
    if found != strays {
        wrong.push(format!("{listed:?} instead of {strays:?}"));
    }
    let body = json!({"dry_run": false});
    let removed = world.write("tidy/default", body).await;
    wrong.extend(removed.err().map(|reason| reason.to_string()));
    for stray in &strays {
        world.forget_promises(stray);
    }
    let living = world.openrouter.account().keys().into_iter();
    let left = living.filter(|key| strays.contains(&*key.hash));
    wrong.extend(left.map(|key| format!("the stray {} is left", key.hash)));
    wrong
}

/// When all leases are over, there are as many again as the role allows.
async fn lease_again(world: &World) -> Vec<String> {
    while !world.server_leases().is_empty() {
        world.pass(FINAL_READING).await;
        world.revoke_what_is_over().await;
    }
    world.write(CI, json!({"max_leases": 2})).await.unwrap();
    let mut leases = Vec::new();
    for _ in 0..3 {
        let lease = world.lease().await;
        leases.push(lease.err().map(|reason| reason.to_string()));
    }
    match &leases[..] {
        [None, None, Some(reason)] if reason.contains("max_leases") => Vec::new(),
        _ => vec![format!("two leases are allowed: {leases:?}")],
    }
}

/// Keys of others: one made by hand, and one of another mount for a role of that name.
struct Strangers(Vec<Key>);

impl Strangers {
    fn come_to(world: &World) -> Self {
        let account = world.openrouter.account();
        let names = [
            "somebody else's",
            "app 2026-11-20 vault-00000000000000000000000000000000",
        ];
        let keys = names.map(|name| account.create_key(NewKey::named(name)));
        for key in &keys {
            world.disown(&key.hash);
        }
        Self(keys.into())
    }

    fn touched(&self, world: &World) -> Vec<String> {
        let is_touched = |before: &&Key| {
            let now = world.seen(&before.hash);
            let is_changed = now.updated_at != before.updated_at || now.deleted_at.is_some();
            is_changed
                || world
                    .openrouter
                    .account()
                    .guardrail_of(&before.hash)
                    .is_some()
        };
        let touched = self.0.iter().filter(is_touched);
        touched
            .map(|key| format!("the key {:?} was touched", key.name))
            .collect()
    }
}

/// One case in so many is enough for every run of the tests.
const SAMPLED: usize = 4;
