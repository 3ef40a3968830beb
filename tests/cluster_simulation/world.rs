//! The world of one life: the servers, what they share, and what befalls them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use openrouter_simulator::Clock;
use tokio::time::sleep;
use vault_plugin_secrets_openrouter::logical::{Data, Existence, Operation, Request, Response};

use crate::dice::Dice;
use crate::node::{Node, Secondary};
use crate::openrouter::OpenRouter;
use crate::raft::{Map, Raft, SERVERS};
use crate::story::Story;
use crate::weather::Weather;
use crate::witness::Witness;

/// Everything there is.
pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) dice: Arc<Dice>,
    pub(crate) story: Story,
    pub(crate) raft: Raft,
    pub(crate) openrouter: OpenRouter,
    pub(crate) secondary: Secondary,
    pub(crate) witness: Witness,
    weather: Mutex<Weather>,
    blows: Mutex<Vec<Blow>>,
    cluster: Mutex<Cluster>,
    snapshots: Mutex<Vec<(Timestamp, Map)>>,
}

#[derive(Default)]
struct Cluster {
    /// The engine of the leader, if it lives.
    active: Option<Arc<Node>>,
    /// One that was deposed, and since when.
    deposed: Option<(Arc<Node>, Timestamp)>,
}

/// Something that befalls a server at one of its next effects.
#[derive(Clone, Debug)]
struct Blow {
    countdown: u64,
    kind: BlowKind,
}

/// What it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlowKind {
    /// The plugin's process is killed.
    KillPlugin,
    /// The server is.
    KillServer,
    /// It loses the leadership, and goes on for a while.
    Depose,
    /// A snapshot is taken.
    Snapshot,
}

/// What a request came to; the error is for people.
pub(crate) type Answer = Result<Option<Response>, String>;

impl World {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let clock = Clock::tokio_from("2026-11-20T12:00:00Z".parse().unwrap());
        Arc::new(Self {
            dice: Arc::new(Dice::new(seed)),
            story: Story::new(clock.clone()),
            raft: Raft::default(),
            openrouter: OpenRouter::new(clock.clone(), seed),
            secondary: Secondary::default(),
            witness: Witness::default(),
            weather: Mutex::new(Weather::CALM),
            blows: Mutex::default(),
            cluster: Mutex::default(),
            snapshots: Mutex::default(),
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

    // --- What befalls the servers ---

    /// The leader will be struck at one of its next effects, counted from 1.
    pub(crate) fn strike_at(&self, countdown: u64, kind: BlowKind) {
        self.blows.lock().unwrap().push(Blow { countdown, kind });
    }

    /// Nothing more is to befall anybody.
    pub(crate) fn spare_everybody(&self) {
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
            self.befall(kind);
        }
    }

    /// It happens now.
    pub(crate) fn befall(self: &Arc<Self>, kind: BlowKind) {
        match kind {
            BlowKind::Snapshot => {
                let mut snapshots = self.snapshots.lock().unwrap();
                snapshots.push((self.now(), self.raft.committed()));
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

    /// A deposed leader's engine works for some time, at most until the server has drained it.
    fn let_go_on(self: &Arc<Self>, node: Arc<Node>) {
        self.cluster.lock().unwrap().deposed = Some((Arc::clone(&node), self.now()));
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
            tokio::spawn(crate::leases::manage(Arc::clone(self), server));
            self.start_engine(server);
        }
    }

    fn start_engine(self: &Arc<Self>, server: usize) {
        let node = Arc::new(Node::new(self, server));
        self.cluster.lock().unwrap().active = Some(Arc::clone(&node));
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

    /// Storage is as it was in one of the last snapshots.
    pub(crate) fn restore(self: &Arc<Self>) {
        let snapshots = self.snapshots.lock().unwrap().clone();
        if snapshots.is_empty() {
            return;
        }
        let (taken_at, map) = self.dice.pick(&snapshots).clone();
        self.story
            .tell(format!("--- the snapshot of {taken_at} is restored"));
        let before = self.raft.leader().unwrap_or(0);
        let mut cluster = self.cluster.lock().unwrap();
        let deposed = cluster.deposed.take().map(|(node, _)| node);
        for node in cluster.active.take().into_iter().chain(deposed) {
            node.life.end();
        }
        drop(cluster);
        self.witness_restore(taken_at, &map);
        self.raft.restore(map);
        let world = Arc::clone(self);
        tokio::spawn(async move {
            sleep(world.dice.pause(300, 15_000)).await;
            world.elect((before + 1) % SERVERS);
        });
    }

    // --- Requests ---

    /// The engine that a request reaches: a server does not know at once that it was deposed.
    fn route(&self) -> Option<Arc<Node>> {
        let cluster = self.cluster.lock().unwrap();
        let unaware = SignedDuration::from_secs(2);
        if let Some((node, since)) = &cluster.deposed
            && self.now().duration_since(*since) < unaware
            && !node.life.is_over()
            && self.dice.chance(0.5)
        {
            return Some(Arc::clone(node));
        }
        cluster.active.clone()
    }

    /// A request, by somebody who waits no longer than this.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        request: Request,
        patience: Option<Duration>,
    ) -> (Answer, Option<Arc<Node>>) {
        let Some(node) = self.route() else {
            return (Err("there is no leader".to_owned()), None);
        };
        let first = self.ask_node(&node, request.clone(), patience).await;
        // The server repeats the one request that met a dead process.
        if first.as_ref().is_err_and(|reason| reason == DIED) && self.dice.chance(0.5) {
            sleep(Duration::from_millis(200)).await;
            if let Some(next) = self.active().filter(|next| next.server == node.server) {
                return (self.ask_node(&next, request, patience).await, Some(next));
            }
        }
        (first, Some(node))
    }

    /// The same to this engine.
    pub(crate) async fn ask_node(
        self: &Arc<Self>,
        node: &Arc<Node>,
        request: Request,
        patience: Option<Duration>,
    ) -> Answer {
        let caller_gone = request.caller_gone.clone();
        let mut handler = tokio::spawn(handle(Arc::clone(node), request));
        tokio::select! {
            biased;
            answer = &mut handler => match answer {
                Ok(answer) => answer.map_err(|reason| reason.to_string()),
                Err(panic) => {
                    self.violated("a handler panicked", &[]);
                    Err(panic.to_string())
                }
            },
            () = node.life.ended() => Err(DIED.to_owned()),
            () = sleep(patience.unwrap_or(LONGEST_REQUEST)) => {
                caller_gone.cancel();
                // An answer that was on its way at that moment has still come.
                sleep(Duration::from_millis(1)).await;
                if handler.is_finished()
                    && let Ok(answer) = (&mut handler).await
                {
                    return answer.map_err(|reason| reason.to_string());
                }
                // The server lets a handler run on; it must not depend on that.
                if self.dice.chance(0.25) {
                    self.witness.tear(self.now());
                    handler.abort();
                }
                Err("the caller gave up".to_owned())
            }
        }
    }

    /// Before something arrives at OpenRouter: in a busy account, others delete keys while a listing is
    /// under way.
    pub(crate) fn before_arrival(
        &self,
        request: &vault_plugin_secrets_openrouter::openrouter::HttpRequest,
    ) {
        let is_second_page = request.url.contains("&offset=") && !request.url.contains("&offset=0");
        if is_second_page && self.dice.chance(0.3) {
            let account = &self.openrouter.accounts[0];
            let foreign = account.keys().into_iter().rev();
            let mut foreign = foreign.filter(|key| key.name.starts_with("somebody's"));
            if let Some(key) = foreign.next() {
                self.story
                    .tell("a person deletes a key of their own, between two pages");
                account.delete_key(&key.hash).unwrap();
            }
        }
    }
}

/// As the server does it: it first asks whether a write is a creation.
async fn handle(
    node: Arc<Node>,
    mut request: Request,
) -> Result<Option<Response>, vault_plugin_secrets_openrouter::logical::Error> {
    if request.operation == Operation::Update {
        let question = Request::new(Operation::Update, request.path.clone());
        if node.backend.existence_check(question).await? == Existence::Absent {
            request.operation = Operation::Create;
        }
    }
    node.backend.handle_request(request).await
}

/// A request with these fields.
pub(crate) fn request(operation: Operation, path: &str, body: serde_json::Value) -> Request {
    let data = match body {
        serde_json::Value::Object(fields) => fields,
        _ => Data::new(),
    };
    Request::new(operation, path).with_data(data)
}

const DIED: &str = "the plugin died";
/// What the server gives a request.
const LONGEST_REQUEST: Duration = Duration::from_secs(90);
