//! A thousand rotations that are due at once, and a thousand keys for leases, on a real server and with
//! an OpenRouter that takes 50 ms for each answer.
//!
//! The engine has at most eight requests of a connection in flight, so neither can finish faster than
//! the number of requests times 50 ms divided by eight. The figure is the measured time divided by this
//! minimum.

use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use openrouter_simulator::{CallerKind, Fault, LoggedRequest};
use serde_json::json;

use super::figure::{Figure, Goal};
use super::load::so_often;
use super::options::Options;
use super::server::readers;
use crate::harness::{Mount, Vault, eventually};

/// Measures both.
pub(crate) async fn measure(options: &Options) -> Vec<Figure> {
    let vault = Vault::dev().await;
    vec![
        rotations(&vault, options.long_rounds()).await,
        creates(&vault, options.long_rounds()).await,
    ]
}

async fn rotations(vault: &Vault, rounds: usize) -> Figure {
    let rounds = i64::try_from(rounds).expect("a few");
    let mount = Mount::on(vault.client()).await;
    let now = || mount.openrouter.clock().now();
    let first = whole_minute(now() + CREATION_TIME);
    create_roles(&mount, &minutes(first, rounds)).await;
    assert!(
        now() < first,
        "the roles were made too slowly to be due at once"
    );
    be_slow(&mount, LATENCY);

    let mut ratios = Vec::new();
    for round in 0..rounds {
        mount.openrouter.requests().reset();
        let due = first + SignedDuration::from_mins(round);
        let wait = due.duration_since(now());
        tokio::time::sleep(wait.try_into().unwrap_or_default()).await;
        let requests = requests_of_a_round(&mount).await;
        ratios.push(report(due, &requests));
    }
    every_role_has_rotated(&mount, rounds).await;
    let name = "1,000 rotations due at once, wall time by the least possible";
    Figure::alone(name, "", &ratios, WELL_USED)
}

async fn creates(vault: &Vault, rounds: usize) -> Figure {
    let mount = Mount::on(vault.client()).await;
    mount
        .role("leased", json!({"credential_type": "dynamic"}))
        .await;
    be_slow(&mount, LATENCY);
    let mut ratios = Vec::new();
    for _ in 0..rounds {
        let mut readers = readers(&vault.client(), &mount.at("creds/leased"), CLIENTS).await;
        let load = so_often(&mut readers, ROLES).await;
        let least = load.reads() as f64 * LATENCY.as_secs_f64() / CONCURRENCY;
        ratios.push(load.wall().as_secs_f64() / least);
    }
    let name = "1,000 keys for leases by 32 clients, wall time by the least possible";
    Figure::alone(name, "", &ratios, WELL_USED)
}

async fn create_roles(mount: &Mount, schedule: &str) {
    let definition = json!({
        "rotation_schedule": schedule,
        // No key is revoked while the time is measured.
        "rotation_grace_period": "1h",
        "ttl": "10m",
    });
    stream::iter(0..ROLES)
        .for_each_concurrent(16, async |index| {
            mount.role(&role(index), definition.clone()).await;
        })
        .await;
}

/// Slows down every answer from now on. The simulator's own latency applies to requests with the
/// management key, so requests with a new key are slowed down explicitly.
pub(crate) fn be_slow(mount: &Mount, latency: Duration) {
    mount.openrouter.set_latency(latency);
    let milliseconds = latency.as_millis().try_into().expect("a few");
    let after_effect = true;
    let slow = Fault::Slow {
        milliseconds,
        after_effect,
    };
    let by_a_key = slow.on("GET", "/key").by(CallerKind::Key);
    mount.openrouter.faults().add(by_a_key.forever());
}

/// Waits until each role has created and verified a key; returns all requests.
async fn requests_of_a_round(mount: &Mount) -> Vec<LoggedRequest> {
    let proofs = async || {
        let requests = mount.openrouter.requests();
        (requests.to("GET", "/key").len() >= ROLES).then_some(())
    };
    eventually("every role rotates", ROUND_TIME, proofs).await;
    mount.openrouter.requests().all()
}

/// Prints the result of a round; returns how many times longer than the minimum it took.
fn report(due: Timestamp, requests: &[LoggedRequest]) -> f64 {
    let (first, last) = (&requests[0], &requests[requests.len() - 1]);
    let wall = last.at.duration_since(first.at).as_secs_f64() + LATENCY.as_secs_f64();
    let least = requests.len() as f64 * LATENCY.as_secs_f64() / CONCURRENCY;
    let delay = first.at.duration_since(due).as_secs_f64();
    let unproved = most_unproved(requests);
    eprintln!(
        "{} requests in {wall:.2} s, at least {least:.2} s: ratio {:.3}; the first {delay:.3} s \
         after it was due; at most {unproved} keys ordered and not proved yet",
        requests.len(),
        wall / least
    );
    wall / least
}

/// The largest number of keys that were created and not verified yet.
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

/// A cron schedule for this many minutes in a row.
fn minutes(first: Timestamp, rounds: i64) -> String {
    let minute = |round| {
        let at = first + SignedDuration::from_mins(round);
        at.to_zoned(TimeZone::UTC).minute().to_string()
    };
    let minutes: Vec<String> = (0..rounds).map(minute).collect();
    format!("{} * * * *", minutes.join(","))
}

/// The first whole minute at or after that time.
fn whole_minute(at: Timestamp) -> Timestamp {
    let second = at.as_second();
    Timestamp::from_second(second + (60 - second.rem_euclid(60))).expect("a time soon")
}

fn role(index: usize) -> String {
    format!("app-{index}")
}

const ROLES: usize = 1_000;
const CLIENTS: usize = 32;
const LATENCY: Duration = Duration::from_millis(50);
/// The engine's limit of concurrent requests per connection.
const CONCURRENCY: f64 = 8.0;
const WELL_USED: Goal = Goal::AtMost(1.15);
/// The latest time before the due time at which the roles are created.
const CREATION_TIME: SignedDuration = SignedDuration::from_secs(45);
/// Far longer than a round takes.
const ROUND_TIME: Duration = Duration::from_secs(50);
