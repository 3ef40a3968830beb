//! The world of one life: the servers, what they share, and what happens to them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use openrouter_simulator::Clock;
use tokio::time::sleep;
use vault_plugin_secrets_openrouter::logical::{Operation, Request};

use crate::budgets::Budgets;
use crate::dice::Dice;
use crate::guardrails::Guardrails;
use crate::in_force::InForce;
use crate::node::{Node, Secondary};
use crate::openrouter::OpenRouter;
use crate::raft::{Map, Raft, SERVERS};
use crate::standbys::{Followers, Standbys};
use crate::story::Story;
use crate::views::Views;
use crate::weather::Weather;
use crate::witness::Witness;

/// The whole world.
pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) dice: Arc<Dice>,
    pub(crate) story: Story,
    pub(crate) raft: Raft,
    pub(crate) openrouter: OpenRouter,
    pub(crate) secondary: Secondary,
    pub(crate) witness: Witness,
    pub(crate) guardrails: Guardrails,
    pub(crate) in_force: InForce,
    pub(crate) budgets: Budgets,
    pub(crate) standbys: Standbys,
    pub(crate) views: Views,
    weather: Mutex<Weather>,
    blows: Mutex<Vec<Blow>>,
    pub(crate) cluster: Mutex<Cluster>,
    snapshots: Mutex<Vec<Snapshot>>,
    /// Keys that a person has disabled in the dashboard.
    pub(crate) unplugged: Mutex<Vec<String>>,
}

/// All of storage at one moment.
#[derive(Clone)]
pub(crate) struct Snapshot {
    pub(crate) taken_at: Timestamp,
    /// How many promises had been made by then: more may be made in the same moment.
    pub(crate) promises: u64,
    pub(crate) map: Map,
}

/// The engines.
#[derive(Default)]
pub(crate) struct Cluster {
    /// The engine of the leader, if it is alive.
    pub(crate) active: Option<Arc<Node>>,
    /// The deposed engines, and since when.
    pub(crate) deposed: Vec<(Arc<Node>, Timestamp)>,
}

/// An incident that hits a server at one of its next effects.
#[derive(Clone, Debug)]
struct Blow {
    countdown: u64,
    kind: BlowKind,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlowKind {
    /// The plugin's process is killed.
    KillPlugin,
    /// The server is killed.
    KillServer,
    /// It loses the leadership, and continues for a while.
    Depose,
    /// A snapshot is taken.
    Snapshot,
}

impl World {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        // Separate dice, so that lives without budgets do not depend on them.
        let (budgets, begins) = Budgets::any(&Dice::new(!seed));
        let clock = Clock::tokio_from(begins);
        Arc::new(Self {
            dice: Arc::new(Dice::new(seed)),
            story: Story::new(clock.clone()),
            raft: Raft::new(Followers::new(clock.clone())),
            openrouter: OpenRouter::new(clock.clone(), seed),
            secondary: Secondary::default(),
            witness: Witness::default(),
            guardrails: Guardrails::default(),
            in_force: InForce::default(),
            budgets,
            standbys: Standbys::new(Dice::new(seed.reverse_bits())),
            views: Views::default(),
            weather: Mutex::new(Weather::CALM),
            blows: Mutex::default(),
            cluster: Mutex::default(),
            snapshots: Mutex::default(),
            unplugged: Mutex::default(),
            clock,
        })
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn after(&self, seconds: u64) -> Timestamp {
        self.now() + SignedDuration::from_secs(seconds.cast_signed())
    }

    pub(crate) fn weather(&self) -> Weather {
        *self.weather.lock().unwrap()
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        *self.weather.lock().unwrap() = weather;
    }

    /// The active engine, if there is one.
    pub(crate) fn active(&self) -> Option<Arc<Node>> {
        self.cluster.lock().unwrap().active.clone()
    }

    /// There is no engine any more.
    pub(crate) fn end_every_engine(&self) {
        *self.cluster.lock().unwrap() = Cluster::default();
        self.standbys.end_every_engine();
    }

    // --- Incidents ---

    /// The leader will be hit at one of its next effects, counted from 1.
    pub(crate) fn strike_at(&self, countdown: u64, kind: BlowKind) {
        self.blows.lock().unwrap().push(Blow { countdown, kind });
    }

    /// No more incidents will happen.
    pub(crate) fn cancel_blows(&self) {
        self.blows.lock().unwrap().clear();
    }

    /// A server has come to one of its effects.
    pub(crate) fn reach(self: &Arc<Self>, server: usize, point: &str) {
        if self.raft.leader() != Some(server) {
            return;
        }
        let mut struck = Vec::new();
        self.blows.lock().unwrap().retain_mut(|blow| {
            blow.countdown -= 1;
            if blow.countdown == 0 {
                struck.push(blow.kind);
            }
            blow.countdown > 0
        });
        for kind in struck {
            self.story
                .tell(format!("--- {kind:?}, {point} on S{server}"));
            self.inflict(kind);
        }
    }

    /// The incident happens.
    pub(crate) fn inflict(self: &Arc<Self>, kind: BlowKind) {
        match kind {
            BlowKind::Snapshot => {
                self.snapshots.lock().unwrap().push(Snapshot {
                    taken_at: self.now(),
                    promises: self.witness.promises(),
                    map: self.raft.committed(),
                });
            }
            BlowKind::KillPlugin => self.kill_plugin(),
            BlowKind::KillServer => {
                let killed = self.cluster.lock().unwrap().active.take();
                if let Some(node) = killed {
                    node.life.end();
                }
                self.lose_the_leader();
            }
            BlowKind::Depose => {
                let deposed = self.cluster.lock().unwrap().active.take();
                if let Some(node) = deposed {
                    self.let_go_on(node);
                }
                self.lose_the_leader();
            }
        }
    }

    fn kill_plugin(self: &Arc<Self>) {
        let Some(node) = self.cluster.lock().unwrap().active.take() else {
            return;
        };
        node.life.end();
        let (world, server) = (Arc::clone(self), node.server);
        tokio::spawn(async move {
            sleep(world.dice.pause(50, 5_000)).await;
            if world.raft.leader() == Some(server) && world.active().is_none() {
                world.start_engine(server);
            }
        });
    }

    /// A deposed leader's engine keeps working for some time, at most until the server has drained it.
    fn let_go_on(self: &Arc<Self>, node: Arc<Node>) {
        let since = (Arc::clone(&node), self.now());
        self.cluster.lock().unwrap().deposed.push(since);
        let world = Arc::clone(self);
        tokio::spawn(async move {
            sleep(world.dice.pause(100, 90_000)).await;
            tokio::select! {
                biased;
                () = node.backend.cleanup() => {}
                () = sleep(Duration::from_secs(3)) => {}
            }
            node.life.end();
            let server = node.server;
            world
                .story
                .tell(format!("--- S{server}, which was deposed, has ended"));
            world.begin_standbys();
        });
    }

    fn lose_the_leader(self: &Arc<Self>) {
        let Some(before) = self.raft.leader() else {
            return;
        };
        self.raft.depose(&self.dice);
        let world = Arc::clone(self);
        tokio::spawn(async move {
            sleep(world.dice.pause(300, 15_000)).await;
            let next = (before + 1 + world.dice.number(0, 1) as usize) % SERVERS;
            world.elect(next);
        });
    }

    /// Another server becomes leader.
    pub(crate) fn elect(self: &Arc<Self>, server: usize) {
        if self.raft.leader().is_none() {
            self.story.tell(format!("--- S{server} is leader"));
            self.raft.elect(server);
            self.note_every_version();
            tokio::spawn(crate::leases::manage(Arc::clone(self), server));
            self.end_standby(server);
            self.start_engine(server);
            self.begin_standbys();
        }
    }

    fn start_engine(self: &Arc<Self>, server: usize) {
        let node = Arc::new(Node::new(self, server));
        let mut cluster = self.cluster.lock().unwrap();
        cluster.active = Some(Arc::clone(&node));
        // A server does not begin another term before it has finished the last one.
        cluster.deposed.retain(|(deposed, _)| {
            if deposed.server == server {
                deposed.life.end();
            }
            !deposed.life.is_over()
        });
        drop(cluster);
        self.witness.work_began(self.now());
        self.story
            .tell(format!("--- the engine begins on S{server}"));
        tokio::spawn(async move {
            let _ = node.backend.initialize().await;
            while !node.life.is_over() {
                sleep(Duration::from_secs(60)).await;
                let tick = Request::new(Operation::Rollback, "");
                let _ = node.backend.handle_request(tick).await;
            }
        });
    }

    /// Storage is reset to one of the last snapshots.
    pub(crate) fn restore(self: &Arc<Self>) {
        let snapshots = self.snapshots.lock().unwrap().clone();
        if snapshots.is_empty() {
            return;
        }
        let snapshot = self.dice.pick(&snapshots).clone();
        let taken_at = snapshot.taken_at;
        self.story
            .tell(format!("--- the snapshot of {taken_at} is restored"));
        let before = self.raft.leader().unwrap_or(0);
        let mut cluster = self.cluster.lock().unwrap();
        let deposed = std::mem::take(&mut cluster.deposed).into_iter();
        let deposed = deposed.map(|(node, _)| node);
        for node in cluster.active.take().into_iter().chain(deposed) {
            node.life.end();
        }
        drop(cluster);
        self.witness_restore(&snapshot);
        self.raft.restore(snapshot.map);
        self.note_every_version();
        self.forget_guardrails();
        let world = Arc::clone(self);
        tokio::spawn(async move {
            sleep(world.dice.pause(300, 15_000)).await;
            world.elect((before + 1) % SERVERS);
        });
    }
}
