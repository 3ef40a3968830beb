//! Three servers on Raft storage that hold elections, and a fourth whose transit engine unseals them, so that
//! a node that was killed can restart without help.
//!
//! Nodes are identified by their index. Starting a cluster takes seconds, so tests take turns on one.

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
use super::relays::Relays;
use super::vault::Vault;
use super::wait::eventually;

/// A cluster with the plugin on every node, registered by its SHA-256.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    root_token: String,
    // Dropped last: without it no node unseals.
    _unsealer: Vault,
}

/// The time from which a node leads until it stops leading.
pub(crate) struct Office {
    node: usize,
    /// Counted from 1 for each node.
    number: usize,
}

impl Cluster {
    /// Starts the servers, joins them, and waits until each of them has a vote.
    pub(crate) async fn new() -> Self {
        Self::set_up(None).await
    }

    /// The same with relays between the nodes.
    pub(crate) async fn through(relays: &Relays) -> Self {
        Self::set_up(Some(relays)).await
    }

    async fn set_up(relays: Option<&Relays>) -> Self {
        let unsealer = Vault::dev().await;
        let seal = transit_seal(&unsealer.client()).await;
        let nodes = (0..NODES).map(async |index| {
            let advertised = relays.map(|relays| relays.address(index));
            let (name, seal) = (format!("node-{index}"), seal.clone());
            let node = Node::advertising(&name, Some(seal), advertised).await;
            if let Some(relays) = relays {
                relays.lead_to(index, node.cluster_address());
            }
            node
        });
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
        // Otherwise a server that joins may vote only after it has been healthy for ten seconds.
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

    /// The cluster that the tests of this binary share, reserved for this test as long as the result lives.
    /// Every node is running.
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
        // An earlier test may have failed halfway.
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

    /// The node that leads. Waits until all nodes agree on that, and serve or forward requests.
    pub(crate) async fn leader(&mut self) -> usize {
        let all: [usize; NODES] = std::array::from_fn(|index| index);
        self.leader_among(&all).await
    }

    /// Waits until the nodes other than `old` agree that one of them leads.
    pub(crate) async fn successor_of(&mut self, old: usize) -> usize {
        self.leader_among(&Self::others(old)).await
    }

    /// Makes the leader step down, as often as necessary until this node leads. No third node may be running,
    /// since it could be elected.
    pub(crate) async fn hand_over(&mut self, leader: usize, heir: usize) {
        loop {
            let office = self.step_down(leader).await;
            if self.next_among(&[leader, heir], &office).await == heir {
                return;
            }
        }
    }

    /// Waits until all nodes agree on the next leader: another node, or the same one again. It stays out of
    /// elections for ten seconds only, and a busy machine may need longer to elect another one.
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

    /// Asks the leader to step down, and returns before it does.
    pub(crate) async fn step_down(&self, leader: usize) -> Office {
        let office = Office {
            node: leader,
            number: self.offices_of(leader),
        };
        let client = self.client(leader);
        client.write("sys/step-down", json!({})).await.ok();
        office
    }

    /// Saves a snapshot of all storage. Returns its file.
    pub(crate) async fn save_snapshot(&mut self) -> String {
        let leader = self.leader().await;
        self.nodes[leader].save_snapshot(&self.client(leader)).await
    }

    /// Restores a snapshot, and waits until every node serves or forwards requests.
    pub(crate) async fn restore_snapshot(&mut self, file: &str) {
        let leader = self.leader().await;
        let client = self.client(leader);
        self.nodes[leader].restore_snapshot(&client, file).await;
        self.is_complete().await;
    }

    /// Kills a node, as in a crash.
    pub(crate) fn kill(&mut self, index: usize) {
        self.nodes[index].kill();
    }

    /// Restarts a node, which unseals itself.
    pub(crate) async fn start(&mut self, index: usize) {
        self.nodes[index].start().await;
    }

    /// Waits until every node has a vote, and serves or forwards requests.
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

    /// Waits until these nodes agree that one of them leads, and serve requests or forward them to it. Nodes
    /// that have exited or given up are restarted. All nodes are asked again each time: on a busy machine,
    /// one may be elected and have lost its leadership before the others know about it.
    async fn leader_among(&mut self, nodes: &[usize]) -> usize {
        let mut views = Vec::new();
        let mut mute_since = [None; NODES];
        let agreed = async || {
            let seen = join_all(nodes.iter().map(|index| self.leader_seen_by(*index))).await;
            if seen != views {
                println!("the leader as seen by {nodes:?}: {seen:?}");
            }
            views = seen;
            let mut given_up = None;
            for (index, view) in nodes.iter().zip(&views) {
                let since = mute_since[*index].get_or_insert_with(Instant::now);
                if view.is_some() {
                    mute_since[*index] = None;
                } else if self.nodes[*index].has_ended() || since.elapsed() > MUTE_TIME {
                    given_up = Some(*index);
                }
            }
            if let Some(index) = given_up {
                self.revive(index).await;
                // One at a time, or there would be no majority. The others may only have waited for this one.
                mute_since = [None; NODES];
            }
            nodes.iter().copied().find(|leader| {
                let url = Some(self.nodes[*leader].url());
                views.iter().all(|view| *view == url)
            })
        };
        eventually("they agree on a leader", ELECTION_TIME, agreed).await
    }

    /// The node to which this node forwards requests, if it serves any.
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

    /// Restarts a node that no longer serves requests, as an operator would: a server may seal itself or exit
    /// if it loses its leadership while it is still taking over.
    async fn revive(&mut self, index: usize) {
        println!("node {index} has given up");
        for (index, node) in self.nodes.iter().enumerate() {
            let log = node.log();
            let last: Vec<&str> = log.lines().rev().take(LOG_LINES).collect();
            println!("the last lines of node {index}, the last first: {last:#?}");
        }
        self.kill(index);
        self.start(index).await;
    }
}

/// Prepares the transit engine of a server. Returns the stanza for the nodes that it unseals.
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

/// The smallest number of nodes of which one may die.
pub(super) const NODES: usize = 3;

/// How long an election and the takeover may take on a busy machine.
const ELECTION_TIME: Duration = Duration::from_secs(300);

/// How long a healthy node may fail to serve requests on a busy machine. An election by a node that has no
/// leader takes five to ten seconds, and a join takes three.
const MUTE_TIME: Duration = Duration::from_secs(45);

/// How long a node may take to answer before it counts as not answering.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// How much of each node's log is shown when one has given up.
const LOG_LINES: usize = 30;
