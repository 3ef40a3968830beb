//! The simulator as a program: for the quick start, and for tests in other processes.
//!
//! The first line on standard output is the API's base URL; if a management key was generated, it
//! follows. Ends on SIGTERM and SIGINT.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use openrouter_simulator::{Options, Simulator};
use tokio::signal::unix::{SignalKind, signal};

/// Simulates OpenRouter's key-management API on a loopback address.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Loopback address to listen on; port 0 lets the system choose.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// A management key of the account (repeatable). One is generated and printed if none is given.
    #[arg(long, value_name = "KEY")]
    management_key: Vec<String>,
    /// Minimum duration of every request with a management key, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    latency: u64,
    /// An additional workspace (repeatable).
    #[arg(long, value_name = "UUID")]
    workspace: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If standard error is closed, the error cannot be reported.
            let _ = writeln!(io::stderr(), "openrouter-simulator: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    // Before the first line is printed: its reader may send a signal at once.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let make_up_a_key = arguments.management_key.is_empty();
    let simulator = Simulator::start(Options {
        listen: arguments.listen,
        management_keys: arguments.management_key,
        workspaces: arguments.workspace,
        latency: Duration::from_millis(arguments.latency),
        ..Options::default()
    })
    .await?;
    announce(&simulator, make_up_a_key)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    simulator.shutdown().await;
    Ok(())
}

fn announce(simulator: &Simulator, with_key: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", simulator.base_url())?;
    if with_key {
        writeln!(out, "{}", simulator.management_key())?;
    }
    out.flush()
}
