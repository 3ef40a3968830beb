//! From exec to the handshake line, and the size of the executable.

use std::fs;
use std::time::Instant;

use super::contender::{Contender, Contenders};
use super::figure::{Figure, Goal};
use crate::support::identity::Identity;
use crate::support::process::{PluginProcess, program_at};

/// Measures ours against each peer.
pub(crate) async fn measure(contenders: &Contenders) -> Vec<Figure> {
    let mut figures = Vec::new();
    for other in &contenders.others {
        let mut turns = Vec::new();
        for _ in 0..STARTS {
            turns.push((start(&contenders.ours).await, start(other).await));
        }
        let start = "exec to handshake line";
        let ours_and_theirs = (size(&contenders.ours), size(other));
        figures.extend([
            Figure::ratio(start, "ms", &other.name, &turns, Goal::AtMost(0.5)),
            Figure::ratio(
                "size of the executable",
                "MB",
                &other.name,
                &[ours_and_theirs],
                Goal::AtMost(1.0 / 3.0),
            ),
        ]);
    }
    figures
}

/// In milliseconds.
async fn start(contender: &Contender) -> f64 {
    let identity = Identity::new();
    let program = program_at(&contender.binary);
    let begun = Instant::now();
    let mut plugin = PluginProcess::start_program(program, &identity, |_| ()).await;
    let took = begun.elapsed();
    plugin.kill().await;
    took.as_secs_f64() * 1e3
}

/// In megabytes.
fn size(contender: &Contender) -> f64 {
    let file = fs::metadata(&contender.binary).expect("the executable is there");
    file.len() as f64 / 1e6
}

const STARTS: usize = 20;
