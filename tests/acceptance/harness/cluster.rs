//! Three servers on Raft storage that hold elections, and a fourth whose transit engine unseals them,
//! so that one that was killed comes back by itself.
//!
//! Nodes go by their index. Starting a cluster takes seconds, so tests take turns on one.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;

use super::client::Client;
use super::listen;
use super::node::Node;
use super::program::{self, PLUGIN_NAME};
use super::raft::string;
use super::vault::Vault;
use super::wait::eventually;

/// A cluster with the plugin on every node, registered by its SHA-256.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    root_token: String,
    // Dropped last: without it no node unseals.
    _unsealer: Vault,
}

/// The time from which a node leads until it stops.
pub(crate) struct Office {
    node: usize,
    /// Counted from 1 for each node.
    number: usize,
}

impl Cluster {
    /// Starts the servers, joins them, and waits until each of them has a vote.
    pub(crate) async fn new() -> Self {
        let unsealer = Vault::dev().await;
        let seal = transit_seal(&unsealer.client()).await;
        let names = (0..NODES).map(|index| format!("node-{index}"));
        let nodes = names.map(async |name| Node::new(&name, Some(seal.clone())).await);
        let nodes = join_all(nodes).await;

        let shares = json!({"recovery_shares": 1, "recovery_threshold": 1});
        let keys = nodes[0].client("").write("sys/init", shares).await.ok();
        let mut cluster = Self {
            root_token: string(&keys.json()["root_token"]),
            nodes,
            _unsealer: unsealer,
        };
        let first = cluster.client(0);
        listen::serves(&first, "sys/health").await;
        // A server that joins may vote after it has been well for ten seconds, otherwise.
        let vote_soon = json!({"server_stabilization_time": "1s"});
        let path = "sys/storage/raft/autopilot/configuration";
        first.write(path, vote_soon).await.ok();
        let path = format!("sys/plugins/catalog/secret/{PLUGIN_NAME}");
        first.write(&path, program::catalog_entry(None)).await.ok();
        for node in &cluster.nodes[1..] {
            let leader = json!({"leader_api_addr": cluster.nodes[0].url()});
            let node = node.client("");
            node.write("sys/storage/raft/join", leader).await.ok();
        }
        cluster.is_complete().await;
        cluster
    }

    /// The cluster that the tests of this binary share, to oneself for as long as the result lives.
    /// Every node is up.
    pub(crate) async fn turn() -> OwnedMutexGuard<Self> {
        static SHARED: Mutex<Weak<Mutex<Cluster>>> = Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        let cluster = match shared.upgrade() {
            Some(cluster) => cluster,
            None => Arc::new(Mutex::new(Self::new().await)),
        };
        *shared = Arc::downgrade(&cluster);
        drop(shared);
        let mut turn = cluster.lock_owned().await;
        // Whoever had it before may have failed half-way.
        turn.is_complete().await;
        turn
    }

    /// A client of this node with the root token.
    pub(crate) fn client(&self, index: usize) -> Client {
        self.nodes[index].client(&self.root_token)
    }

    /// A client of each node.
    pub(crate) fn clients(&self) -> Vec<Client> {
        (0..NODES).map(|index| self.client(index)).collect()
    }

    /// A node.
    pub(crate) fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// Which node leads; waits until all of them agree about that, and serve requests or pass them on.
    pub(crate) async fn leader(&mut self) -> usize {
        let all: [usize; NODES] = std::array::from_fn(|index| index);
        self.leader_among(&all).await
    }

    /// Waits until the others than `old` agree that one of them leads.
    pub(crate) async fn successor_of(&mut self, old: usize) -> usize {
        self.leader_among(&Self::others(old)).await
    }

    /// Has the leader give up its office, as often as it takes until this node has it. No third one may be up:
    /// that could be elected.
    pub(crate) async fn hand_over(&mut self, leader: usize, heir: usize) {
        loop {
            let office = self.step_down(leader).await;
            if self.next_among(&[leader, heir], &office).await == heir {
                return;
            }
        }
    }

    /// Waits until all agree who leads after this office: another node, or the same one again. It stays
    /// away for ten seconds only, and a busy machine may need longer to elect another.
    pub(crate) async fn next_after(&mut self, office: &Office) -> usize {
        let all: [usize; NODES] = std::array::from_fn(|index| index);
        self.next_among(&all, office).await
    }

    async fn next_among(&mut self, nodes: &[usize], office: &Office) -> usize {
        let next = async || {
            let leader = self.leader_among(nodes).await;
            let is_next = leader != office.node || self.offices_of(leader) > office.number;
            is_next.then_some(leader)
        };
        eventually("the leader steps down", ELECTION_TIME, next).await
    }

    /// How often a node has become the leader.
    fn offices_of(&self, index: usize) -> usize {
        let log = self.nodes[index].log();
        log.matches("acquired lock, enabling active operation")
            .count()
    }

    /// The other nodes.
    pub(crate) fn others(index: usize) -> [usize; NODES - 1] {
        [(index + 1) % NODES, (index + 2) % NODES]
    }

    /// Asks the leader to give up its office, and returns before it does.
    pub(crate) async fn step_down(&self, leader: usize) -> Office {
        let office = Office {
            node: leader,
            number: self.offices_of(leader),
        };
        let client = self.client(leader);
        client.write("sys/step-down", json!({})).await.ok();
        office
    }

    /// Saves a snapshot of everything that is stored; returns its file.
    pub(crate) async fn save_snapshot(&mut self) -> String {
        let leader = self.leader().await;
        self.nodes[leader].save_snapshot(&self.client(leader)).await
    }

    /// Restores a snapshot, and waits until every node serves requests or passes them on.
    pub(crate) async fn restore_snapshot(&mut self, file: &str) {
        let leader = self.leader().await;
        let client = self.client(leader);
        self.nodes[leader].restore_snapshot(&client, file).await;
        self.is_complete().await;
    }

    /// Ends a node as a crash would.
    pub(crate) fn kill(&mut self, index: usize) {
        self.nodes[index].kill();
    }

    /// Starts a node again, which unseals itself.
    pub(crate) async fn start(&mut self, index: usize) {
        self.nodes[index].start().await;
    }

    /// Waits until every node has a vote, and serves requests or passes them on.
    pub(crate) async fn is_complete(&mut self) {
        self.leader().await;
        let voters = async || {
            let path = "sys/storage/raft/configuration";
            let reply = self.client(0).try_read(path).await?;
            let servers = reply.data()["config"]["servers"].as_array()?.clone();
            let votes = servers.iter().filter(|server| server["voter"] == true);
            (votes.count() == NODES).then_some(())
        };
        eventually("every node has a vote", ELECTION_TIME, voters).await;
    }

    /// Waits until these nodes agree that one of them leads, and serve requests or pass them on to it;
    /// those that have ended or given up are started again. All are asked anew each time: on a busy
    /// machine one may be elected and have lost its office before the rest have heard of it.
    async fn leader_among(&mut self, nodes: &[usize]) -> usize {
        let mut views = Vec::new();
        let mut mute_since = [None; NODES];
        let agreed = async || {
            let seen = join_all(nodes.iter().map(|index| self.leader_seen_by(*index))).await;
            if seen != views {
                println!("the leader as seen by {nodes:?}: {seen:?}");
            }
            views = seen;
            for (index, view) in nodes.iter().zip(&views) {
                let since = mute_since[*index].get_or_insert_with(Instant::now);
                if view.is_some() {
                    mute_since[*index] = None;
                } else if self.nodes[*index].has_ended() || since.elapsed() > MUTE_TIME {
                    mute_since[*index] = None;
                    self.revive(*index).await;
                }
            }
            nodes.iter().copied().find(|leader| {
                let url = Some(self.nodes[*leader].url());
                views.iter().all(|view| *view == url)
            })
        };
        eventually("they agree on a leader", ELECTION_TIME, agreed).await
    }

    /// To whom this node passes requests on, if it serves them at all.
    async fn leader_seen_by(&self, index: usize) -> Option<String> {
        let client = self.client(index);
        let asked = async {
            let served = client.try_read("auth/token/lookup-self").await?;
            if served.status() != 200 {
                println!("node {index} does not serve: {served}");
                return None;
            }
            let reply = client.try_read("sys/leader").await?;
            reply.json()["leader_address"].as_str().map(str::to_owned)
        };
        timeout(ANSWER_TIME, asked).await.ok().flatten()
    }

    /// Starts a node again that serves nobody any more, as an operator would: a server may seal itself
    /// or end when it loses its office while it is still taking it up.
    async fn revive(&mut self, index: usize) {
        let log = self.nodes[index].log();
        let last: Vec<&str> = log.lines().rev().take(LOG_LINES).collect();
        println!("node {index} has given up; its last lines, the last first: {last:#?}");
        self.kill(index);
        self.start(index).await;
    }
}

/// Prepares the transit engine of a server; returns the stanza for those that it unseals.
async fn transit_seal(unsealer: &Client) -> Value {
    let transit = json!({"type": "transit"});
    unsealer.write("sys/mounts/transit", transit).await.ok();
    unsealer.write("transit/keys/unseal", json!({})).await.ok();
    json!({"transit": {
        "address": unsealer.address(),
        "token": unsealer.token(),
        "disable_renewal": "true",
        "mount_path": "transit/",
        "key_name": "unseal",
    }})
}

/// The fewest of which one may die.
const NODES: usize = 3;

/// How long an election and what comes after it may take on a busy machine.
const ELECTION_TIME: Duration = Duration::from_secs(300);

/// How long a node that is well may fail to serve for, on a busy machine. An election is that of a node
/// that holds none, so five to ten seconds, and one that joins takes three.
const MUTE_TIME: Duration = Duration::from_secs(45);

/// How long a node may take to answer before it counts as one that does not.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// How much of the log of one that is not is shown.
const LOG_LINES: usize = 30;
