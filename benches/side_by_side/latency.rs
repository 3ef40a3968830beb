//! What a rotation by hand and the read of a dynamic role take beyond OpenRouter's own time: the server,
//! the plugin, and its storage. And what a reader of a shared key waits for if everything is asleep.

use std::time::{Duration, Instant};

use serde_json::json;

use super::bursts::be_slow;
use super::contender::{Contenders, Contest};
use super::figure::{Figure, Goal, Spread};
use super::load::so_often;
use super::options::Options;
use super::server::Server;
use crate::harness::{Mount, Reply, Vault};

/// Measures all of it.
pub(crate) async fn measure(contenders: &Contenders, options: &Options) -> Vec<Figure> {
    let mut figures = with_openrouter(options).await;
    let server = Server::with(contenders.all()).await;
    for contest in contenders.contests() {
        figures.push(after_idling(&server, &contest, options).await);
    }
    figures
}

/// The first read after a second in which nobody has read: the median of a round.
async fn after_idling(server: &Server, contest: &Contest<'_>, options: &Options) -> Figure {
    let mut ours = server.readers(contest.ours.0, contest.ours.1, 1).await;
    let mut theirs = server.readers(contest.theirs.0, contest.theirs.1, 1).await;
    let mut turns = Vec::new();
    for _ in 0..options.rounds() {
        let mut took = [Vec::new(), Vec::new()];
        for _ in 0..EACH_IDLE_ROUND {
            for (readers, took) in [&mut ours, &mut theirs].into_iter().zip(&mut took) {
                tokio::time::sleep(IDLE).await;
                took.push(so_often(readers, 1).await.within(0.5) / 1e3);
            }
        }
        let [ours, theirs] = took.map(|took| Spread::of(took).median);
        turns.push((ours, theirs));
    }
    let name = format!("first {} after an idle second", contest.what);
    Figure::ratio(name, "ms", &contest.theirs.0.name, &turns, Goal::None)
}

/// A rotation and a dynamic role, with an OpenRouter that answers at once and with one that takes 50 ms.
async fn with_openrouter(options: &Options) -> Vec<Figure> {
    let vault = Vault::dev().await;
    let mut figures = Vec::new();
    for latency in LATENCIES {
        let mount = Mount::on(vault.client()).await;
        let dynamic = json!({"credential_type": "dynamic"});
        mount.role("leased", dynamic).await;
        let count = options.rounds() * EACH_ROUND;
        // A role has room for a hundred superseded keys.
        let roles = count.div_ceil(EACH_ROLE);
        for number in 0..roles {
            mount.role(&format!("app-{number}"), json!({})).await;
        }
        if !latency.is_zero() {
            be_slow(&mount, latency);
        }
        let (mut rotations, mut reads) = (Vec::new(), Vec::new());
        for number in 0..count {
            let path = format!("rotate-role/app-{}", number % roles);
            let rotation = async || mount.write(&path, json!({})).await;
            rotations.push(beyond(&mount, OF_A_ROTATION, rotation).await);
            let read = async || mount.read("creds/leased").await;
            reads.push(beyond(&mount, OF_A_READ, read).await);
        }
        figures.extend(of("rotate-role", &mut rotations, latency));
        figures.extend(of("read of a dynamic role", &mut reads, latency));
    }
    figures
}

/// How much longer a call takes than OpenRouter takes to answer these requests of it, in milliseconds.
/// OpenRouter's time is measured: it takes longer than it is told to, since timers count whole
/// milliseconds.
async fn beyond(mount: &Mount, endpoints: &[&str], call: impl AsyncFnOnce() -> Reply) -> f64 {
    mount.openrouter.requests().reset();
    let begun = Instant::now();
    call().await.ok();
    let took = begun.elapsed();
    let mut requests = mount.openrouter.requests().all();
    // The engine may compare the keys of the account meanwhile.
    requests.retain(|request| endpoints.contains(&request.endpoint().as_str()));
    assert_eq!(requests.len(), endpoints.len(), "{requests:?}");
    let answering = requests.iter().map(|request| {
        let answered_at = request.answered_at.expect("it is answered");
        answered_at.duration_since(request.at).as_secs_f64()
    });
    (took.as_secs_f64() - answering.sum::<f64>()) * 1e3
}

fn of(what: &str, took: &mut [f64], latency: Duration) -> [Figure; 2] {
    took.sort_by(f64::total_cmp);
    let within = |hundredths: usize| took[(took.len() - 1) * hundredths / 100];
    [(50, "p50", Goal::AtMost(5.0)), (99, "p99", Goal::None)].map(|(hundredths, part, goal)| {
        let milliseconds = latency.as_millis();
        let name = format!("{what}, OpenRouter takes {milliseconds} ms: {part} beyond that");
        Figure::alone(name, "ms", &[within(hundredths)], goal)
    })
}

const LATENCIES: [Duration; 2] = [Duration::ZERO, Duration::from_millis(50)];
/// Requests, one after the other: one orders a key, and one proves it.
const OF_A_ROTATION: &[&str] = &["POST /keys", "GET /key"];
/// Only the order.
const OF_A_READ: &[&str] = &["POST /keys"];
const EACH_ROUND: usize = 30;
const EACH_ROLE: usize = 60;
const EACH_IDLE_ROUND: usize = 5;
const IDLE: Duration = Duration::from_secs(1);
