//! The measured plugins, and how each is set up so that a read is one storage read.

use std::env;
use std::fs;
use std::path::PathBuf;

use openrouter_simulator::{Options as Account, Simulator};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::options::{Options, Peer};
use crate::harness::program;

/// A measured plugin.
#[derive(Clone)]
pub(crate) struct Contender {
    /// Its name in the table.
    pub(crate) name: String,
    pub(crate) binary: PathBuf,
    pub(crate) setup: Setup,
}

/// How a plugin is set up, and which paths are read.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Setup {
    /// The mount's options.
    #[serde(default)]
    pub(crate) options: Map<String, Value>,
    /// The writes that set it up, in order.
    pub(crate) writes: Vec<Write>,
    /// The path of a read without a lease.
    pub(crate) unleased: Option<String>,
    /// The path of a read with a lease.
    pub(crate) leased: Option<String>,
}

/// A write to a path of the mount.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Write {
    pub(crate) path: String,
    pub(crate) data: Value,
}

/// This plugin and its peers.
pub(crate) struct Contenders {
    pub(crate) ours: Contender,
    pub(crate) others: Vec<Contender>,
    /// Our key comes from it. Reads do not use it.
    _openrouter: Simulator,
}

/// A read for which two plugins are compared.
pub(crate) struct Contest<'a> {
    /// The name of the read in the table.
    pub(crate) what: &'static str,
    /// Each plugin, with its path for the read.
    pub(crate) ours: (&'a Contender, &'a str),
    pub(crate) theirs: (&'a Contender, &'a str),
}

impl Contest<'_> {
    pub(crate) fn is_leased(&self) -> bool {
        self.what == LEASED
    }
}

impl Contenders {
    /// This plugin, the two Go peers that `scripts/bench` builds, and those of the command line.
    pub(crate) async fn of(options: &Options) -> Self {
        let openrouter = Simulator::start(Account::default())
            .await
            .expect("the simulator starts");
        let contender =
            |name: &str, binary, setup: &str| contender(name, binary, setup, &openrouter);
        let mut others = vec![
            contender("terraform", built("BENCH_TERRAFORM"), TERRAFORM),
            contender("kv", built("BENCH_KV"), KV),
        ];
        for Peer {
            name,
            binary,
            setup,
        } in &options.peer
        {
            let setup = fs::read_to_string(setup).expect("the peer's setup can be read");
            others.push(contender(name, binary.clone(), &setup));
        }
        Self {
            ours: contender("openrouter", program::plugin().to_owned(), OURS),
            others,
            _openrouter: openrouter,
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Contender> {
        self.others.iter().chain([&self.ours])
    }

    /// Every pair of reads that can be compared.
    pub(crate) fn contests(&self) -> Vec<Contest<'_>> {
        let each = self.others.iter().flat_map(|other| {
            [
                self.contest(other, UNLEASED, |setup| setup.unleased.as_deref()),
                self.contest(other, LEASED, |setup| setup.leased.as_deref()),
            ]
        });
        each.flatten().collect()
    }

    fn contest<'a>(
        &'a self,
        other: &'a Contender,
        what: &'static str,
        path: impl Fn(&'a Setup) -> Option<&'a str>,
    ) -> Option<Contest<'a>> {
        Some(Contest {
            what,
            ours: (&self.ours, path(&self.ours.setup)?),
            theirs: (other, path(&other.setup)?),
        })
    }
}

fn contender(name: &str, binary: PathBuf, setup: &str, openrouter: &Simulator) -> Contender {
    // Another build of this plugin can be a peer too.
    let setup = setup
        .replace("OPENROUTER_URL", &openrouter.base_url())
        .replace("OPENROUTER_KEY", openrouter.management_key());
    Contender {
        name: name.to_owned(),
        binary,
        setup: serde_json::from_str(&setup).unwrap_or_else(|error| panic!("{name}: {error}")),
    }
}

/// A binary that `scripts/bench` built.
fn built(variable: &str) -> PathBuf {
    let binary = env::var_os(variable);
    let binary = binary.unwrap_or_else(|| panic!("{variable} names the plugin: scripts/bench"));
    binary.into()
}

const UNLEASED: &str = "unleased read";
const LEASED: &str = "leased read";

const OURS: &str = include_str!("setups/openrouter.json");
const TERRAFORM: &str = include_str!("setups/terraform.json");
const KV: &str = include_str!("setups/kv.json");
