//! The benchmark of `scripts/bench-rotations`: a thousand roles of one connection, all due in the same
//! second, on a real server, and an OpenRouter that takes 50 ms for every answer. Since the engine
//! has at most eight requests under way, they cannot be done faster than their number times 50 ms
//! divided by eight; the benchmark prints how much longer it took. It asserts no time.

use std::env;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use openrouter_simulator::{CallerKind, Fault, LoggedRequest};
use serde_json::json;

use crate::harness::{Mount, Vault, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, for minutes: scripts/bench-rotations"]
async fn a_thousand_rotations_that_are_due_at_once() {
    let rounds = number("BENCH_ROUNDS", 3);
    let vault = Vault::dev().await;
    let mount = Mount::on(vault.client()).await;
    let now = || mount.openrouter.clock().now();
    let first = whole_minute(now() + CREATION_TIME);
    let begun = Instant::now();
    create_roles(&mount, &minutes(first, rounds)).await;
    println!(
        "creating {ROLES} roles without latency: {:.1?}",
        begun.elapsed()
    );
    assert!(
        now() < first,
        "the roles were made too slowly to be due at once"
    );
    be_slow(&mount);

    let mut ratios = Vec::new();
    for round in 0..rounds {
        mount.openrouter.requests().reset();
        let due = first + SignedDuration::from_mins(round);
        let wait = due.duration_since(now());
        tokio::time::sleep(wait.try_into().unwrap_or_default()).await;
        let requests = requests_of_a_round(&mount).await;
        ratios.push(report(due, &requests));
    }
    ratios.sort_by(f64::total_cmp);
    let (least, median) = (ratios[0], ratios[ratios.len() / 2]);
    println!("ratio: minimum {least:.3}, median {median:.3}");
    every_role_has_rotated(&mount, rounds).await;
}

async fn create_roles(mount: &Mount, schedule: &str) {
    let definition = json!({
        "rotation_schedule": schedule,
        // No key is revoked while the clock is watched.
        "rotation_grace_period": "1h",
        "ttl": "10m",
    });
    stream::iter(0..ROLES)
        .for_each_concurrent(16, async |index| {
            mount.role(&role(index), definition.clone()).await;
        })
        .await;
}

/// From now on each answer takes its time: the simulator's own latency is that of the management
/// key's requests, so those that a new key makes for itself are slowed down by hand.
fn be_slow(mount: &Mount) {
    mount.openrouter.set_latency(LATENCY);
    let milliseconds = LATENCY.as_millis().try_into().expect("a few");
    let after_effect = true;
    let slow = Fault::Slow {
        milliseconds,
        after_effect,
    };
    let by_a_key = slow.on("GET", "/key").by(CallerKind::Key);
    mount.openrouter.faults().add(by_a_key.forever());
}

/// Waits until each role has ordered a key and proved it; returns everything that was asked.
async fn requests_of_a_round(mount: &Mount) -> Vec<LoggedRequest> {
    let proofs = async || {
        let requests = mount.openrouter.requests();
        (requests.to("GET", "/key").len() >= ROLES).then_some(())
    };
    eventually("every role rotates", ROUND_TIME, proofs).await;
    mount.openrouter.requests().all()
}

/// Prints what a round came to; returns how many times longer than necessary it took.
fn report(due: Timestamp, requests: &[LoggedRequest]) -> f64 {
    let (first, last) = (&requests[0], &requests[requests.len() - 1]);
    let wall = last.at.duration_since(first.at).as_secs_f64() + LATENCY.as_secs_f64();
    let least = requests.len() as f64 * LATENCY.as_secs_f64() / AT_A_TIME;
    let delay = first.at.duration_since(due).as_secs_f64();
    let unproved = most_unproved(requests);
    println!(
        "{} requests in {wall:.2} s, at least {least:.2} s: ratio {:.3}; the first {delay:.3} s \
         after it was due; at most {unproved} keys ordered and not proved yet",
        requests.len(),
        wall / least
    );
    wall / least
}

/// How many keys at once were ordered and waited for their proof, at most.
fn most_unproved(requests: &[LoggedRequest]) -> usize {
    let mut unproved = 0_usize;
    let waiting = requests.iter().map(|request| {
        match request.endpoint().as_str() {
            "POST /keys" => unproved += 1,
            "GET /key" => unproved = unproved.saturating_sub(1),
            _ => {}
        }
        unproved
    });
    waiting.max().unwrap_or_default()
}

async fn every_role_has_rotated(mount: &Mount, rounds: i64) {
    for index in 0..ROLES {
        let path = format!("roles/{}", role(index));
        let rotated = async || {
            let reply = mount.read(&path).await.ok();
            (reply.field("current_key")["version"] == rounds + 1).then_some(())
        };
        eventually("the last key is in service", ROUND_TIME, rotated).await;
    }
}

/// A cron schedule for so many minutes in a row.
fn minutes(first: Timestamp, rounds: i64) -> String {
    let minute = |round| {
        let at = first + SignedDuration::from_mins(round);
        at.to_zoned(TimeZone::UTC).minute().to_string()
    };
    let minutes: Vec<String> = (0..rounds).map(minute).collect();
    format!("{} * * * *", minutes.join(","))
}

/// The first whole minute from then on.
fn whole_minute(at: Timestamp) -> Timestamp {
    let second = at.as_second();
    Timestamp::from_second(second + (60 - second.rem_euclid(60))).expect("a time soon")
}

fn number(variable: &str, otherwise: i64) -> i64 {
    env::var(variable).map_or(otherwise, |text| text.parse().expect("a number"))
}

fn role(index: usize) -> String {
    format!("app-{index}")
}

const ROLES: usize = 1_000;
const LATENCY: Duration = Duration::from_millis(50);
/// What the engine allows itself, of one connection's requests.
const AT_A_TIME: f64 = 8.0;
/// How long before they are due at the latest the roles are made.
const CREATION_TIME: SignedDuration = SignedDuration::from_secs(45);
/// Far longer than a round takes.
const ROUND_TIME: Duration = Duration::from_secs(50);
