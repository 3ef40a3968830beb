//! Reads through Vault: the plugin's CPU per read, the reads per second, and their latency.

use super::contender::{Contender, Contenders, Contest};
use super::figure::{Figure, Goal};
use super::load::{HttpReader, flat_out, paced};
use super::options::Options;
use super::process::cpu;
use super::server::Server;

/// Measures every pair of reads, with 1 client and with 32.
pub(crate) async fn measure(contenders: &Contenders, options: &Options) -> Vec<Figure> {
    let server = Server::with(contenders.all()).await;
    let mut figures = Vec::new();
    for contest in contenders.contests() {
        for clients in CLIENTS {
            figures.extend(compare(&server, &contest, clients, options).await);
        }
    }
    figures
}

/// The measurements of one side in a turn.
struct Measured {
    rate: f64,
    plugin: f64,
    server: f64,
}

/// One side: a plugin, and its readers.
struct Side {
    process: u32,
    readers: Vec<HttpReader>,
}

impl Side {
    async fn new(server: &Server, of: (&Contender, &str), clients: usize) -> Self {
        let (contender, path) = of;
        Self {
            process: server.plugin(contender),
            readers: server.readers(contender, path, clients).await,
        }
    }

    async fn flat_out(&mut self, server: &Server, options: &Options) -> Measured {
        let before = (cpu(self.process), cpu(server.id()));
        let load = flat_out(&mut self.readers, options.round_time()).await;
        Measured {
            rate: load.rate(),
            plugin: load.share(cpu(self.process) - before.0),
            server: load.share(cpu(server.id()) - before.1),
        }
    }

    /// The median and the 99th percentile of the latency, in microseconds.
    async fn latencies(&mut self, rate: f64, options: &Options) -> (f64, f64) {
        let load = paced(&mut self.readers, rate, options.round_time()).await;
        (load.within(0.5), load.within(0.99))
    }
}

async fn compare(
    server: &Server,
    contest: &Contest<'_>,
    clients: usize,
    options: &Options,
) -> Vec<Figure> {
    let mut ours = Side::new(server, contest.ours, clients).await;
    let mut theirs = Side::new(server, contest.theirs, clients).await;
    let (mut rates, mut plugins, mut servers) = (Vec::new(), Vec::new(), Vec::new());
    let (mut halves, mut nearly_all) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds() {
        let (a, b) = (
            ours.flat_out(server, options).await,
            theirs.flat_out(server, options).await,
        );
        // Half the rate of the slower side: neither has a queue.
        let rate = a.rate.min(b.rate) / 2.0;
        rates.push((a.rate, b.rate));
        plugins.push((a.plugin, b.plugin));
        servers.push((a.server, b.server));
        let (a, b) = (
            ours.latencies(rate, options).await,
            theirs.latencies(rate, options).await,
        );
        halves.push((a.0, b.0));
        nearly_all.push((a.1, b.1));
    }
    let goals = Goals::of(contest.is_leased(), clients);
    let figure = |what: &str, unit, turns: &[(f64, f64)], goal| {
        let name = format!("{}, {}: {what}", contest.what, number_of(clients));
        Figure::ratio(name, unit, &contest.theirs.0.name, turns, goal)
    };
    vec![
        figure("plugin CPU of one", "µs", &plugins, goals.cpu),
        figure("Vault's CPU of one", "µs", &servers, Goal::None),
        figure("in a second", "", &rates, goals.rate),
        figure("p50 at the same rate", "µs", &halves, goals.half),
        figure("p99 at the same rate", "µs", &nearly_all, goals.nearly_all),
    ]
}

/// The number of clients, as text for the table.
pub(crate) fn number_of(clients: usize) -> String {
    match clients {
        1 => "1 client".to_owned(),
        many => format!("{many} clients"),
    }
}

struct Goals {
    cpu: Goal,
    rate: Goal,
    half: Goal,
    nearly_all: Goal,
}

impl Goals {
    fn of(leased: bool, clients: usize) -> Self {
        let many = clients > 1;
        let [cpu, rate] = match (leased, many) {
            (false, false) => [0.22, 2.2],
            (false, true) => [0.2, 1.65],
            (true, false) => [0.16, 2.6],
            (true, true) => [0.15, 1.9],
        };
        let [half, nearly_all] = match (leased, many) {
            (false, true) => [Goal::AtMost(0.6), Goal::AtMost(0.9)],
            _ => [Goal::None, Goal::None],
        };
        Self {
            cpu: Goal::AtMost(cpu),
            rate: Goal::AtLeast(rate),
            half,
            nearly_all,
        }
    }
}

pub(crate) const CLIENTS: [usize; 2] = [1, 32];
