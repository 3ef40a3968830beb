//! A world: one storage, one OpenRouter, one clock, and the active node.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock};

use jiff::{SignedDuration, Timestamp};
use openrouter_simulator::{Account, Options, Simulator};
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::{
    Data, Entry, FixedSystemView, MemoryStorage, ReplicationState, Storage, SystemView,
};

use super::clock::{NodeClock, Time};
use super::effects::{Effects, Life};
use super::gate::Gate;
use super::invariants::Promise;
use super::leases::ServerLease;
use super::log;
use super::node::{Answer, Foretellable, Node};
use super::snapshots::entries;
use super::storage::NodeStorage;

/// The role of most tests.
pub(crate) const ROLE: &str = "roles/app";
/// The path that rotates it.
pub(crate) const ROTATE: &str = "rotate-role/app";

/// The path that forgets it.
pub(crate) const FORGET: &str = "forget-role/app";

/// The whole world.
pub(crate) struct World {
    pub(crate) openrouter: Simulator,
    pub(crate) effects: Arc<Effects>,
    pub(crate) storage: Arc<MemoryStorage>,
    pub(crate) time: Arc<Time>,
    pub(super) promises: Mutex<Vec<Promise>>,
    pub(super) leases: Arc<Mutex<Vec<ServerLease>>>,
    /// Keys that need no owner, see [`World::disown`].
    pub(super) unowned: Mutex<BTreeSet<String>>,
    /// Keys that were handed out without their role's guardrail.
    pub(super) unguarded: Mutex<Vec<String>>,
    /// How many keys of guarded roles were handed out.
    pub(super) guarded: AtomicUsize,
    gate: Gate,
    node: Mutex<Arc<Node>>,
    randomness: Arc<Foretellable>,
}

impl World {
    /// A world with one active node, without configuration.
    pub(crate) async fn empty() -> Self {
        log::listen();
        let present = "2026-11-20T12:00:00Z".parse().unwrap();
        let options = Options {
            clock: openrouter_simulator::Clock::standing_at(present),
            seed: Some(1),
            ..Options::default()
        };
        let openrouter = Simulator::start(options).await.unwrap();
        let effects = Arc::new(Effects::default());
        let gate = Gate::before(&openrouter.base_url(), Arc::clone(&effects)).await;
        let time = Time::of(openrouter.clock().clone());
        let storage = Arc::new(MemoryStorage::default());
        let randomness = Arc::new(Foretellable::default());
        let system = Arc::new(FixedSystemView::default());
        let node = node(&gate, &effects, &storage, &time, system, &randomness);
        let world = Self {
            openrouter,
            effects,
            storage,
            time,
            promises: Mutex::default(),
            leases: Arc::default(),
            unowned: Mutex::default(),
            unguarded: Mutex::default(),
            guarded: AtomicUsize::default(),
            gate,
            node: Mutex::new(Arc::new(node)),
            randomness,
        };
        world.node().backend.initialize().await.unwrap();
        world.quiet().await;
        world
    }

    /// The same, with a connection.
    pub(crate) async fn connected() -> Self {
        // Worlds differ only in the address of their gate. All worlds copy what the first one stored, since
        // each write creates an HTTP client, which takes longer than most tests.
        static STORED: OnceLock<String> = OnceLock::new();
        let stored = match STORED.get() {
            Some(stored) => stored,
            None => {
                let stored = Self::empty().await.written_connection().await;
                STORED.get_or_init(|| stored)
            }
        };
        let world = Self::empty().await;
        let value = stored.replace("GATE", &world.gate.url()).into_bytes();
        let key = "config/default".to_owned();
        world.storage.put(Entry { key, value }).await.unwrap();
        // A write would have been noticed.
        world.restart().await;
        world.quiet().await;
        world
    }

    async fn written_connection(&self) -> String {
        let url = self.gate.url();
        let management_key = self.openrouter.management_key();
        let body = json!({"management_key": management_key, "api_url": url});
        self.write("config", body).await.unwrap();
        let stored = self.storage.get("config/default").await.unwrap();
        let stored = String::from_utf8(stored.expect("it was written")).unwrap();
        stored.replace(&url, "GATE")
    }

    /// The same, with [`ROLE`] and a first reader of its key: a period of an hour, a grace period of ten
    /// minutes, a lease of five minutes.
    pub(crate) async fn with_role() -> Self {
        let world = Self::connected().await;
        world.write(ROLE, role()).await.unwrap();
        world.key("app").await.unwrap();
        world.quiet().await;
        world
    }

    /// The address of OpenRouter for the engine.
    pub(crate) fn gate_url(&self) -> String {
        self.gate.url()
    }

    /// Another account, with this connection to it.
    pub(crate) async fn other_account(&self, connection: &str) -> Account {
        let account = self.openrouter.add_account();
        let body = json!({
            "management_key": account.add_management_key(), "api_url": self.gate_url(),
        });
        let path = format!("config/{connection}");
        self.write(&path, body).await.unwrap();
        account
    }

    /// The highest number of concurrent requests to OpenRouter so far.
    pub(crate) fn most_under_way(&self) -> usize {
        self.gate.most_under_way()
    }

    /// The active node.
    pub(crate) fn node(&self) -> Arc<Node> {
        Arc::clone(&self.node.lock().unwrap())
    }

    pub(crate) async fn read(&self, path: &str) -> Answer {
        self.node().read(path).await
    }

    /// The same for a caller who may have to wait for the engine: time passes meanwhile.
    pub(crate) async fn read_patiently(&self, path: &str) -> Answer {
        let node = self.node();
        self.while_time_passes(node.read(path)).await
    }

    pub(crate) async fn write(&self, path: &str, body: Value) -> Answer {
        let node = self.node();
        self.while_time_passes(node.write(path, body)).await
    }

    pub(crate) async fn delete(&self, path: &str, body: Value) -> Answer {
        let node = self.node();
        self.while_time_passes(node.delete(path, body)).await
    }

    /// The response to a read of a role; `None` if there is no such role.
    pub(crate) async fn role(&self, name: &str) -> Option<Data> {
        let answer = self.read(&format!("roles/{name}")).await.unwrap();
        answer.map(|answer| answer.data)
    }

    /// The hash of the current key of the role `app`, which may be withheld.
    pub(crate) async fn current(&self) -> String {
        let role = self.role("app").await.unwrap();
        role["current_key"]["hash"].as_str().unwrap().to_owned()
    }

    /// A key as OpenRouter has it, or had it.
    pub(crate) fn seen(&self, hash: &str) -> openrouter_simulator::Key {
        self.openrouter.account().key(hash).unwrap()
    }

    /// Whether a key that was made is not deleted.
    pub(crate) fn lives(&self, hash: &str) -> bool {
        self.seen(hash).deleted_at.is_none()
    }

    /// The hash of the key that an application reads, as with [`World::key`].
    pub(crate) async fn key_hash(&self, role: &str) -> String {
        let key = self.key(role).await.unwrap();
        key["key_hash"].as_str().unwrap().to_owned()
    }

    /// The same key itself.
    pub(crate) async fn secret(&self, role: &str) -> String {
        let key = self.key(role).await.unwrap();
        key["api_key"].as_str().unwrap().to_owned()
    }

    /// Reads a role's key as an application that relies on it from then on.
    pub(crate) async fn key(&self, role: &str) -> Result<Data, String> {
        let (node, path) = (self.node(), format!("creds/{role}"));
        let answer = tokio::select! {
            biased;
            answer = node.read(&path) => answer.map_err(|reason| reason.to_string())?,
            // Time does not pass meanwhile; [`World::read_patiently`] is for callers that can wait.
            () = node.life.quiet() => return Err("the read waits for a rotation".to_owned()),
        };
        let data = answer.ok_or("there is no key")?.data;
        let promise = Promise {
            hash: data["key_hash"].as_str().unwrap().to_owned(),
            until: self.after(data["ttl"].as_i64().unwrap()),
        };
        self.require_guarded(role, &promise.hash).await;
        self.promises.lock().unwrap().push(promise);
        Ok(data)
    }

    /// The version of the key that the role `app` hands out.
    pub(crate) async fn version(&self) -> u64 {
        let data = self.key("app").await.unwrap();
        data["key_version"].as_u64().unwrap()
    }

    /// The number of keys that were ordered from OpenRouter.
    pub(crate) fn orders(&self) -> usize {
        self.openrouter.requests().to("POST", "/keys").len()
    }

    /// When each key was created, oldest first, whether it is still alive or not.
    pub(crate) fn made_at(&self) -> Vec<Timestamp> {
        let keys = self.openrouter.account().all_keys();
        let mut times: Vec<_> = keys.into_iter().map(|key| key.created_at).collect();
        times.sort_unstable();
        times
    }

    /// The content of the write-ahead log.
    pub(crate) fn intents(&self) -> Vec<String> {
        let mut keys = self.storage.keys();
        keys.retain(|key| key.starts_with("wal/"));
        keys
    }

    /// Creates this many roles with the names `copy-1` and so on, which are copies of the role `app`, for the
    /// next node.
    pub(crate) async fn copy_role(&self, copies: usize) {
        let value = self
            .storage
            .get(ROLE)
            .await
            .unwrap()
            .expect("there is the role");
        for number in 1..=copies {
            let (key, value) = (format!("roles/copy-{number}"), value.clone());
            self.storage.put(Entry { key, value }).await.unwrap();
        }
    }

    /// The node dies in the middle of a rotation, after this point.
    pub(crate) async fn die_during_a_rotation(&self, point: &str) {
        self.die_during(point, self.write(ROTATE, Value::Null))
            .await;
    }

    /// The node dies at this point of an operation, which must not complete.
    pub(crate) async fn die_during<T>(&self, point: &str, something: impl Future<Output = T>) {
        self.effects.die_at(point);
        tokio::select! {
            _ = something => panic!("it outlives the crash {point}"),
            () = self.effects.crash() => {}
        }
    }

    /// Another live engine on a copy of the storage, as after a clone of the server.
    pub(crate) async fn copy(&self) -> Node {
        let storage = Arc::new(MemoryStorage::default());
        for entry in self.snapshot() {
            storage.put(entry).await.unwrap();
        }
        let life = Arc::new(Life::default());
        let clock = NodeClock::new(Arc::clone(&self.time), Arc::clone(&life));
        let storage = NodeStorage::new(storage, Arc::clone(&self.effects), Arc::clone(&life));
        let system = Arc::new(FixedSystemView::default());
        let node = Node::new(
            life,
            clock,
            storage,
            system,
            Arc::clone(&self.randomness) as _,
        );
        node.backend.initialize().await.unwrap();
        node.tick().await.unwrap();
        self.quiet().await;
        node.life.quiet().await;
        node
    }

    /// Everything that is stored.
    pub(crate) fn snapshot(&self) -> Vec<Entry> {
        entries(&self.storage)
    }

    /// The node dies, and storage is reset to the snapshot, for the next node.
    pub(crate) async fn restore(&self, snapshot: Vec<Entry>) {
        self.node().life.end();
        self.put_back(snapshot).await;
    }

    /// Storage is reset to the snapshot.
    pub(crate) async fn put_back(&self, snapshot: Vec<Entry>) {
        for key in self.storage.keys() {
            self.storage.delete(&key).await.unwrap();
        }
        for entry in snapshot {
            self.storage.put(entry).await.unwrap();
        }
    }

    /// This many seconds from now.
    pub(crate) fn after(&self, seconds: i64) -> Timestamp {
        let seconds = SignedDuration::from_secs(seconds);
        self.time.now().checked_add(seconds).unwrap()
    }

    /// Lets this much time pass, and stops whenever the engine wants to be woken. At every stop the server
    /// makes its periodic call and a reader reads the role's key.
    pub(crate) async fn pass(&self, seconds: i64) {
        self.live_until(self.after(seconds), true).await;
    }

    /// The same, up to this time.
    pub(crate) async fn pass_until(&self, end: &str) {
        self.live_until(end.parse().unwrap(), true).await;
    }

    /// The same without periodic calls: the engine only has its own timer.
    pub(crate) async fn pass_without_calls(&self, seconds: i64) {
        self.live_until(self.after(seconds), false).await;
    }

    async fn live_until(&self, end: Timestamp, called: bool) {
        let node = self.node();
        loop {
            if called {
                node.tick().await.unwrap();
            }
            node.life.quiet().await;
            if self.storage.keys().iter().any(|key| key == ROLE) {
                // Not every scenario has a key to hand out at every time.
                let _ = self.effects.aside(self.key("app")).await;
            }
            let now = self.time.now();
            if now == end {
                return;
            }
            let next = node.clock.next_wake().filter(|next| *next > now);
            self.time.set(next.map_or(end, |next| next.min(end)));
        }
    }

    /// Carries out a request. While it waits for the clock, for example between two tries, the clock moves.
    pub(super) async fn while_time_passes(&self, request: impl Future<Output = Answer>) -> Answer {
        tokio::pin!(request);
        loop {
            tokio::select! {
                answer = &mut request => return answer,
                () = self.quiet() => {
                    self.node().life.checkpoint().await;
                    // The keeper's next task is later, and the request does not wait for it.
                    let (now, soon) = (self.time.now(), self.after(2));
                    let next = self.node().clock.next_wake();
                    if let Some(next) = next.filter(|next| (now..soon).contains(next)) {
                        self.time.set(next);
                    }
                }
            }
        }
    }

    /// Returns when at least this many requests are held at OpenRouter.
    pub(crate) async fn holding(&self, count: usize) {
        while self.openrouter.faults().held() < count {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    /// Returns when nothing more happens before the clock moves.
    pub(crate) async fn quiet(&self) {
        self.node().life.quiet().await;
    }

    /// The node dies, if it is not dead yet, and another one takes over.
    pub(crate) async fn restart(&self) {
        self.fail_over(FixedSystemView::default()).await;
    }

    /// The same, with a node of this kind.
    pub(crate) async fn fail_over(&self, system: impl SystemView + 'static) {
        self.node().life.end();
        self.hand_over_to(system).await;
    }

    /// Another node takes over. The previous one does not know it yet, and stays alive.
    pub(crate) async fn take_over(&self) {
        self.hand_over_to(FixedSystemView::default()).await;
    }

    /// The plugin's process dies, and the same server starts another one.
    pub(crate) async fn restart_plugin(&self) {
        let before = self.node();
        before.life.end();
        let next = self.next_node(FixedSystemView::default());
        next.storage.inherit_cache(&before.storage);
        self.begin(next).await;
    }

    /// A standby next to the active node, which serves reads from the same storage.
    pub(crate) async fn standby(&self) -> Node {
        let standby = self.next_node(FixedSystemView {
            replication_state: ReplicationState::PERFORMANCE_STANDBY,
            ..FixedSystemView::default()
        });
        standby.backend.initialize().await.unwrap();
        standby
    }

    /// Reads a role's key from this node without a lease, as an application that relies on it from then on.
    pub(crate) async fn key_from(&self, node: &Node, role: &str) -> Data {
        let answer = node.read(&format!("static-creds/{role}")).await.unwrap();
        let data = answer.expect("there is a key").data;
        let promise = Promise {
            hash: data["key_hash"].as_str().unwrap().to_owned(),
            until: self.after(data["ttl"].as_i64().unwrap()),
        };
        self.promises.lock().unwrap().push(promise);
        data
    }

    /// The server ends the mount's instance, and starts another one in the same process.
    pub(crate) async fn reload(&self) {
        self.reload_after(async || ()).await;
    }

    /// The same, with something that happens in between.
    pub(crate) async fn reload_after(&self, meanwhile: impl AsyncFnOnce()) {
        let before = self.node();
        before.backend.cleanup().await;
        meanwhile().await;
        self.begin(before.reloaded()).await;
    }

    async fn hand_over_to(&self, system: impl SystemView + 'static) {
        self.begin(self.next_node(system)).await;
    }

    fn next_node(&self, system: impl SystemView + 'static) -> Node {
        let (gate, effects, storage) = (&self.gate, &self.effects, &self.storage);
        let system = Arc::new(system);
        node(gate, effects, storage, &self.time, system, &self.randomness)
    }

    async fn begin(&self, next: Node) {
        *self.node.lock().unwrap() = Arc::new(next);
        self.node().backend.initialize().await.unwrap();
        self.node().tick().await.unwrap();
    }
}

/// The fields that [`World::with_role`] writes.
pub(crate) fn role() -> Value {
    json!({
        "rotation_period": 3600,
        "rotation_grace_period": 600,
        "ttl": 300,
        "limit": 5,
    })
}

fn node(
    gate: &Gate,
    effects: &Arc<Effects>,
    storage: &Arc<MemoryStorage>,
    time: &Arc<Time>,
    system: Arc<dyn SystemView>,
    randomness: &Arc<Foretellable>,
) -> Node {
    let life = Arc::new(Life::default());
    gate.serve(Arc::clone(&life));
    let clock = NodeClock::new(Arc::clone(time), Arc::clone(&life));
    let storage = NodeStorage::new(Arc::clone(storage), Arc::clone(effects), Arc::clone(&life));
    Node::new(life, clock, storage, system, Arc::clone(randomness) as _)
}
