//! Many lives, and their outcomes.

use std::collections::BTreeMap;
use std::env;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::budgets::Windows;
use crate::guardrails::Counted;
use crate::life::{Outcome, live};
use crate::standbys;

/// The outcome of many lives.
#[derive(Default)]
struct Sum {
    /// The seeds that failed, and why.
    failed: BTreeMap<u64, Vec<String>>,
    /// How often it was checked whether keys are guarded.
    guarded: Counted,
    /// The outcomes of the windows of budgets.
    windows: Windows,
    /// How often standbys were tested.
    standbys: standbys::Counted,
}

/// Runs these lives, on as many threads as there are cores.
fn run(first: u64, count: u64) -> Sum {
    let next = AtomicU64::new(first);
    let sum = Mutex::new(Sum::default());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let outcome = live(seed);
                    let mut sum = sum.lock().unwrap();
                    sum.guarded.add(outcome.world.counted());
                    sum.windows.add(outcome.world.windows());
                    sum.standbys.add(outcome.world.standbys_counted());
                    let lived = seed - first + 1;
                    if lived.is_multiple_of(1_000) {
                        println!("{lived} seeds");
                    }
                    if !outcome.violations.is_empty() {
                        let what = outcome.violations.iter().map(|v| v.what.clone());
                        let what: Vec<_> = what.collect();
                        // At once, so that a run that is stopped early has reported what it found.
                        println!("seed {seed}: {}", what.join("; "));
                        sum.failed.insert(seed, what);
                    }
                }
            });
        }
    });
    sum.into_inner().unwrap()
}

/// The story of a life that failed.
fn tell(seed: u64, outcome: &Outcome) -> String {
    let Some(first) = outcome.violations.first() else {
        return format!("seed {seed}: no violation\n");
    };
    let story = outcome.world.story.of(&first.about);
    let all: Vec<_> = outcome.violations.iter().map(|v| v.what.as_str()).collect();
    format!(
        "seed {seed}:\n{story}\nviolations:\n  {}\n",
        all.join("\n  ")
    )
}

#[test]
fn no_life_of_three_hundred_ends_badly() {
    let Sum {
        failed,
        guarded,
        windows,
        standbys,
    } = run(1, 300);
    println!("{guarded:?} {windows:?} {standbys:?}");
    let first = failed.first_key_value().map(|(seed, _)| *seed);
    let story = first
        .map(|seed| tell(seed, &live(seed)))
        .unwrap_or_default();
    assert!(failed.is_empty(), "{} of 300 failed; {story}", failed.len());
    // Otherwise nothing was judged.
    assert!(
        guarded.guarded > 1_000 && guarded.bounded > 100,
        "{guarded:?}"
    );
    assert!(windows.spent > 5 && windows.unlocked > 2, "{windows:?}");
    assert!(
        standbys.handed_out > 10_000 && standbys.kept > 5_000 && standbys.forwarded > 2_000,
        "{standbys:?}"
    );
    assert!(
        standbys.behind > 300 && standbys.stale > 100 && standbys.raced > 20,
        "{standbys:?}"
    );
    assert!(
        standbys.told > 2_000 && standbys.told_late > 1_000 && standbys.untold > 500,
        "{standbys:?}"
    );
    assert!(standbys.settled > 1_000, "{standbys:?}");
}

#[test]
fn the_same_seed_has_the_same_story() {
    for seed in 1..=10 {
        let [one, again] = [live(seed), live(seed)].map(|outcome| outcome.world.story.whole());
        if one != again {
            let mut lines = one.lines().zip(again.lines());
            let differing = lines.find(|(one, again)| one != again);
            panic!("seed {seed}: {differing:?}");
        }
    }
}

/// `scripts/simulate`.
#[test]
#[ignore = "as many seeds as it is told: scripts/simulate"]
fn simulate() {
    let number = |name: &str, otherwise| env::var(name).map_or(otherwise, |n| n.parse().unwrap());
    let (count, first) = (number("SIMULATE_SEEDS", 10_000), number("SIMULATE_SEED", 1));
    if count == 1 {
        let outcome = live(first);
        if env::var_os("SIMULATE_WHOLE").is_some() {
            println!("{}", outcome.world.story.whole());
        }
        println!("{}", tell(first, &outcome));
        assert!(outcome.violations.is_empty());
        return;
    }
    let begun = Instant::now();
    let Sum {
        failed,
        guarded,
        windows,
        standbys,
    } = run(first, count);
    let seconds = begun.elapsed().as_secs_f64();
    if let Some(seed) = failed.keys().next() {
        println!("\n{}", tell(*seed, &live(*seed)));
    }
    println!(
        "{count} seeds in {seconds:.0} s, {:.1} a second; {} with violations",
        count as f64 / seconds,
        failed.len()
    );
    println!(
        "{} guarded keys were handed out ({} excused), {} assigned; {} keys were made under bounds",
        guarded.guarded, guarded.excused, guarded.assigned, guarded.bounded
    );
    println!(
        "{} windows of budgets were judged, {} without an excuse: the budget was spent in {}, {} % of it at \
         most; {} roles had all that was left",
        windows.judged, windows.strictly, windows.spent, windows.worst, windows.unlocked
    );
    println!(
        "standbys handed out {} keys, {} from memory, {} that were replaced by then, {} of them although their \
         server saw that, {} while they were told of a change; they forwarded {} reads; {} promises were shorter \
         since they were far behind",
        standbys.handed_out,
        standbys.kept,
        standbys.behind,
        standbys.stale,
        standbys.raced,
        standbys.forwarded,
        standbys.shortened
    );
    println!(
        "standbys were told of {} changes on time, of {} late or twice, of {} never; {} roles were read there in \
         the end",
        standbys.told, standbys.told_late, standbys.untold, standbys.settled
    );
    assert!(
        failed.is_empty(),
        "seeds with violations: {:?}",
        failed.keys()
    );
}
