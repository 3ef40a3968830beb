//! Reads of a dynamic role with a budget beside reads of one without, in the same process of the plugin. Each
//! read makes a key and a lease, and no lease ends meanwhile: they pile up, as the leases of a busy role do.

use std::time::Duration;

use serde_json::json;

use super::figure::{Figure, Goal};
use super::load::{HttpReader, flat_out};
use super::options::Options;
use super::process::cpu;
use super::reads::{CLIENTS, number_of};
use super::server::readers;
use crate::harness::{Mount, PluginProcess, Vault};

/// Measures rate and CPU, with 1 client and with 32.
pub(crate) async fn measure(options: &Options) -> Vec<Figure> {
    let vault = Vault::dev().await;
    let mount = Mount::on(vault.client()).await;
    let plugins = vault.plugin_processes();
    let plugins: Vec<u32> = plugins.iter().map(PluginProcess::id).collect();
    assert_eq!(plugins.len(), 1, "only one plugin is mounted: {plugins:?}");
    let without = json!({"credential_type": "dynamic", "ttl": "1h", "limit": 1});
    let mut with = without.clone();
    with["budget"] = json!(1_000_000);
    with["budget_reset"] = json!("monthly");
    mount.role("with", with).await;
    mount.role("without", without).await;
    let mut figures = Vec::new();
    for clients in CLIENTS {
        let side = async |role: &str| Side {
            plugin: plugins[0],
            readers: readers(
                &vault.client(),
                &mount.at(&format!("creds/{role}")),
                clients,
            )
            .await,
        };
        let (mut with, mut without) = (side("with").await, side("without").await);
        let (mut rates, mut spent) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds() {
            let [with, without] = turn(&mut with, &mut without, options.round_time()).await;
            rates.push((with.rate(), without.rate()));
            spent.push((with.cpu(), without.cpu()));
        }
        let figure = |what: &str, unit, turns: &[(f64, f64)], goal| {
            let name = format!("read under a budget, {}: {what}", number_of(clients));
            Figure::ratio(name, unit, "without", turns, goal)
        };
        figures.extend([
            figure("plugin CPU of one", "µs", &spent, Goal::AtMost(1.05)),
            figure("in a second", "", &rates, Goal::AtLeast(0.95)),
        ]);
    }
    figures
}

/// One side, and its readers.
struct Side {
    plugin: u32,
    readers: Vec<HttpReader>,
}

/// What one side has done in a turn.
#[derive(Default)]
struct Measured {
    reads: f64,
    wall: Duration,
    cpu: Duration,
}

impl Measured {
    /// Reads per second.
    fn rate(&self) -> f64 {
        self.reads / self.wall.as_secs_f64()
    }

    /// The plugin's CPU time per read, in microseconds.
    fn cpu(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.reads
    }
}

/// A turn of many short parts. The order changes, so that neither side has the more leases before it, or the
/// quieter machine.
async fn turn(with: &mut Side, without: &mut Side, time: Duration) -> [Measured; 2] {
    let (mut a, mut b) = (Measured::default(), Measured::default());
    for number in 0..time.div_duration_f64(PART) as usize {
        if number % 2 == 0 {
            load(with, &mut a, PART).await;
            load(without, &mut b, PART).await;
        } else {
            load(without, &mut b, PART).await;
            load(with, &mut a, PART).await;
        }
    }
    [a, b]
}

async fn load(side: &mut Side, measured: &mut Measured, time: Duration) {
    let before = cpu(side.plugin);
    let load = flat_out(&mut side.readers, time).await;
    measured.cpu += cpu(side.plugin) - before;
    measured.reads += load.reads() as f64;
    measured.wall += load.wall();
}

/// Long enough for some reads, and shorter than what disturbs the machine.
const PART: Duration = Duration::from_millis(100);
