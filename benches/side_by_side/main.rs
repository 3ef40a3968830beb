//! The benchmark of `scripts/bench`: this plugin compared with plugins written on Vault's Go SDK.
//!
//! The two sides are measured in alternating turns, so that a noisy machine affects both alike. The
//! result is the ratio within each turn. Each part of the table is a module below. The benchmark
//! asserts that every answer is correct, and no times.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark fails by panicking, and prints what it measures"
)]

mod budget;
mod bursts;
mod contender;
mod crowd;
mod direct;
mod figure;
mod latency;
mod limit;
mod load;
mod memory;
mod options;
mod process;
mod reads;
mod report;
mod roles;
mod server;
mod starts;
mod wire;

#[allow(
    dead_code,
    unused_imports,
    reason = "the acceptance suite uses the rest of it"
)]
#[path = "../../tests/acceptance/harness/mod.rs"]
mod harness;
#[path = "../../tests/support/mod.rs"]
mod support;

use clap::Parser as _;

use contender::Contenders;
use options::{Options, Part};
use report::Report;

// One thread: the load generator should take little CPU from the processes under load.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let options = Options::parse();
    let contenders = Contenders::of(&options).await;
    let mut report = Report::new(options.rounds());
    for part in options.parts() {
        eprintln!("Measuring: {part}.");
        report.add(match part {
            Part::Reads => reads::measure(&contenders, &options).await,
            Part::Direct => direct::measure(&contenders, &options).await,
            Part::Memory => memory::measure(&contenders, &options).await,
            Part::Starts => starts::measure(&contenders).await,
            Part::Roles => roles::measure().await,
            Part::Bursts => bursts::measure(&options).await,
            Part::Limit => limit::measure(&contenders, &options).await,
            Part::Crowd => crowd::measure(&options).await,
            Part::Latency => latency::measure(&contenders, &options).await,
            Part::Budget => budget::measure(&options).await,
        });
    }
    report.print();
    report.store();
}
