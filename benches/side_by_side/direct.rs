//! Reads without Vault in between: gRPC straight to the plugin, from the tests' own host, which sets
//! the plugin up and answers its storage calls from memory. All plugins use the same host.

use std::path::Path;

use serde_json::Value;

use super::contender::{Contender, Contenders, Contest};
use super::figure::{Figure, Goal};
use super::load::{Reader, flat_out};
use super::options::Options;
use super::process::cpu;
use super::reads::{CLIENTS, number_of};
use super::wire::{Call, Offer, Wire};
use crate::support::host::Host;
use crate::support::identity::Identity;
use crate::support::process::{PluginProcess, program_at};
use crate::support::vault_host::{Caller, Reply, Vault, request};
use crate::support::vault_mount::MountServer;

/// Measures the unleased reads, with 1 caller and with 32.
pub(crate) async fn measure(contenders: &Contenders, options: &Options) -> Vec<Figure> {
    let mut figures = Vec::new();
    for contest in contenders.contests() {
        if contest.is_leased() {
            continue;
        }
        for clients in CLIENTS {
            figures.extend(compare(&contest, clients, options).await);
        }
    }
    figures
}

async fn compare(contest: &Contest<'_>, clients: usize, options: &Options) -> Vec<Figure> {
    let ours = Hosted::with(contest.ours.0).await;
    let theirs = Hosted::with(contest.theirs.0).await;
    let (mut rates, mut spent) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds() {
        let a = ours.flat_out(contest.ours.1, clients, options).await;
        let b = theirs.flat_out(contest.theirs.1, clients, options).await;
        rates.push((a.0, b.0));
        spent.push((a.1, b.1));
    }
    let figure = |what: &str, unit, turns: &[(f64, f64)], goal| {
        let name = format!(
            "{} without Vault, {}: {what}",
            contest.what,
            number_of(clients)
        );
        Figure::ratio(name, unit, &contest.theirs.0.name, turns, goal)
    };
    let rate = Goal::AtLeast(if clients > 1 { 4.0 } else { 3.0 });
    vec![
        figure("plugin CPU of one", "µs", &spent, Goal::AtMost(0.5)),
        figure("in a second", "", &rates, rate),
    ]
}

/// A plugin's process with one mount, under the host of the tests.
pub(crate) struct Hosted {
    pub(crate) plugin: PluginProcess,
    caller: Caller,
    wire: Wire,
    _host: Host,
    _offer: Offer,
}

impl Hosted {
    /// Starts the plugin and sets it up.
    pub(crate) async fn with(contender: &Contender) -> Self {
        let hosted = Self::on(&contender.binary, &MountServer::default()).await;
        for write in &contender.setup.writes {
            hosted.write(&write.path, &write.data).await;
        }
        hosted
    }

    /// Starts a plugin with a mount whose storage is already filled.
    pub(crate) async fn on(binary: &Path, server: &MountServer) -> Self {
        let identity = Identity::new();
        let plugin = PluginProcess::start_program(program_at(binary), &identity, |_| ()).await;
        let host = Host::connect(identity, &plugin.line).await;
        let (id, offer) = Offer::by(&host, server.services()).await;
        let wire = Wire::to(&host, plugin.line.socket.clone()).await;
        let vault = Vault { plugin, host };
        let caller = vault.caller(&[MOUNT]);
        assert_eq!(caller.setup(id).await.unwrap().err, "");
        assert_eq!(caller.initialize().await.unwrap().err, None);
        Self {
            plugin: vault.plugin,
            caller,
            wire,
            _host: vault.host,
            _offer: offer,
        }
    }

    /// Writes as Vault does: a missing object is created, on paths that distinguish creates from
    /// updates.
    pub(crate) async fn write(&self, path: &str, data: &Value) {
        let check = self.caller.existence_check(path).await.unwrap();
        let operation = if check.check_found && !check.exists {
            "create"
        } else {
            "update"
        };
        self.ask(operation, path, &data.to_string()).await.done();
    }

    /// Makes a request.
    pub(crate) async fn ask(&self, operation: &str, path: &str, data: &str) -> Reply {
        let request = request(operation, path, data);
        Reply(self.caller.handle(request).await.unwrap())
    }

    /// Reads per second, and the microseconds of plugin CPU per read.
    async fn flat_out(&self, path: &str, clients: usize, options: &Options) -> (f64, f64) {
        let read = request("read", path, "null");
        let mut readers: Vec<Call> = (0..clients)
            .map(|_| self.wire.call(MOUNT, read.clone()))
            .collect();
        let process = self.plugin.id();
        let before = cpu(process);
        let load = flat_out(&mut readers, options.round_time()).await;
        (load.rate(), load.share(cpu(process) - before))
    }
}

/// One of several concurrent callers over one connection, as in Vault.
impl Reader for Call {
    async fn read(&mut self) {
        let reply = Reply(self.send().await);
        assert_ne!(reply.response().data, "null");
    }
}

/// Vault's id of the mount.
const MOUNT: &str = "mount";
