//! The command line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Measures this plugin beside plugins written on Vault's Go SDK.
#[derive(Parser)]
#[command(name = "scripts/bench", disable_version_flag = true)]
pub(crate) struct Options {
    /// Fewer and shorter rounds: about ten minutes in all
    #[arg(long)]
    short: bool,
    /// Measure only this part of the table (may be given several times)
    #[arg(long, value_name = "PART")]
    only: Vec<Part>,
    /// Also measure another plugin: its name, its executable, and a file that describes its setup and
    /// reads (see benches/side_by_side/setups)
    #[arg(long, value_name = "NAME=BINARY:SETUP")]
    pub(crate) peer: Vec<Peer>,
    /// Passed by Cargo to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A part of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Reads through Vault: CPU, rate, latency
    Reads,
    /// The same without Vault in between
    Direct,
    /// Memory, idle, after 100,000 reads of one role and of 1,000
    Memory,
    /// Time to the handshake line, and size of the executable
    Starts,
    /// 10 to 10,000 roles: first answer, memory of each, calls of an idle minute
    Roles,
    /// 1,000 rotations, and 1,000 keys for leases, at 50 ms a request
    Bursts,
    /// Unleased reads beside an engine that is built into the server
    Limit,
    /// 500 clients read 1,000 roles of which 50 rotate, beside the built-in engine
    Crowd,
    /// rotate-role and the read of a dynamic role, beyond OpenRouter's own time; the first read after an
    /// idle second
    Latency,
    /// Reads of a dynamic role with a budget beside reads of one without
    Budget,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// Another plugin to measure.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) binary: PathBuf,
    pub(crate) setup: PathBuf,
}

impl FromStr for Peer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text
            .split_once('=')
            .and_then(|(name, rest)| Some((name, rest.split_once(':')?)));
        let Some((name, (binary, setup))) = parts else {
            return Err("must be NAME=BINARY:SETUP");
        };
        Ok(Self {
            name: name.to_owned(),
            binary: binary.into(),
            setup: setup.into(),
        })
    }
}

impl Options {
    /// The parts to measure, in the table's order.
    pub(crate) fn parts(&self) -> Vec<Part> {
        Part::value_variants()
            .iter()
            .copied()
            .filter(|part| self.only.is_empty() || self.only.contains(part))
            .collect()
    }

    /// The number of rounds for each side.
    pub(crate) fn rounds(&self) -> usize {
        if self.short { 3 } else { 9 }
    }

    /// The number of rounds for measurements that need their own server.
    pub(crate) fn long_rounds(&self) -> usize {
        if self.short { 1 } else { 3 }
    }

    /// How long one side of a round is.
    pub(crate) fn round_time(&self) -> Duration {
        Duration::from_secs(if self.short { 2 } else { 5 })
    }
}
