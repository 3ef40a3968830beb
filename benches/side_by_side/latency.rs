//! What a rotation by hand and the read of a dynamic role take beyond OpenRouter's own time: the server,
//! the plugin, and its storage.

use std::time::{Duration, Instant};

use serde_json::json;

use super::bursts::be_slow;
use super::figure::{Figure, Goal};
use super::options::Options;
use crate::harness::{Mount, Vault};

/// Measures both, with an OpenRouter that answers at once and with one that takes 50 ms.
pub(crate) async fn measure(options: &Options) -> Vec<Figure> {
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
            let begun = Instant::now();
            mount.write(&path, json!({})).await.ok();
            rotations.push(beyond(begun.elapsed(), latency * OF_A_ROTATION));
            let begun = Instant::now();
            mount.read("creds/leased").await.ok();
            reads.push(beyond(begun.elapsed(), latency * OF_A_READ));
        }
        figures.extend(of("rotate-role", &mut rotations, latency));
        figures.extend(of("read of a dynamic role", &mut reads, latency));
    }
    figures
}

/// In milliseconds.
fn beyond(took: Duration, openrouter: Duration) -> f64 {
    (took.as_secs_f64() - openrouter.as_secs_f64()) * 1e3
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
const OF_A_ROTATION: u32 = 2;
/// Only the order.
const OF_A_READ: u32 = 1;
const EACH_ROUND: usize = 30;
const EACH_ROLE: usize = 60;
