//! A node: the engine on one mount, in one process, as the server calls it.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use vault_plugin_secrets_openrouter::engine::factory;
use vault_plugin_secrets_openrouter::engine::randomness::Randomness;
use vault_plugin_secrets_openrouter::logical::{
    Backend, Data, Error, Event, EventSink, Existence, Factory, Mount, Operation, Request,
    Response, SystemView,
};
use vault_plugin_secrets_openrouter::openrouter::SystemNetwork;

use super::clock::NodeClock;
use super::effects::Life;
use super::storage::NodeStorage;
use super::system::NodeSystem;

/// The outcome of a call.
pub(crate) type Answer = Result<Option<Response>, Error>;

/// A node of the cluster.
pub(crate) struct Node {
    pub(crate) life: Arc<Life>,
    pub(crate) clock: Arc<NodeClock>,
    pub(crate) storage: Arc<NodeStorage>,
    pub(crate) system: Arc<NodeSystem>,
    pub(crate) backend: Arc<dyn Backend>,
    make: Factory,
    pub(crate) events: Arc<EventBus>,
}

/// The server's event bus.
#[derive(Default)]
pub(crate) struct EventBus(Mutex<Vec<Event>>);

#[async_trait]
impl EventSink for EventBus {
    async fn send(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl EventBus {
    /// The events that were sent since they were last taken.
    pub(crate) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Node {
    /// A node that was not told yet that it may use its storage.
    pub(crate) fn new(
        life: Arc<Life>,
        clock: Arc<NodeClock>,
        storage: Arc<NodeStorage>,
        system: Arc<dyn SystemView>,
        randomness: Arc<dyn Randomness>,
    ) -> Self {
        let make = factory(Arc::clone(&clock) as _, randomness, Arc::new(SystemNetwork));
        let system = Arc::new(NodeSystem::new(system, Arc::clone(&life)));
        Self::mounted(life, clock, storage, system, make)
    }

    /// The next instance of the same mount in the same process, as after a seal or a reload of the plugin.
    /// The previous one must be cleaned up, and no longer used.
    pub(crate) fn reloaded(&self) -> Self {
        Self::mounted(
            Arc::clone(&self.life),
            Arc::clone(&self.clock),
            Arc::clone(&self.storage),
            Arc::clone(&self.system),
            Arc::clone(&self.make),
        )
    }

    fn mounted(
        life: Arc<Life>,
        clock: Arc<NodeClock>,
        storage: Arc<NodeStorage>,
        system: Arc<NodeSystem>,
        make: Factory,
    ) -> Self {
        let events = Arc::new(EventBus::default());
        let mount = Mount {
            storage: Arc::clone(&storage) as _,
            system: Arc::clone(&system) as _,
            events: Arc::clone(&events) as _,
            backend_uuid: "test".to_owned(),
        };
        let backend = make(mount);
        Self {
            life,
            clock,
            storage,
            system,
            backend,
            make,
            events,
        }
    }

    pub(crate) async fn read(&self, path: &str) -> Answer {
        self.call(Operation::Read, path, Value::Null).await
    }

    /// Writes as the server does: it first asks whether the write is a creation.
    pub(crate) async fn write(&self, path: &str, body: Value) -> Answer {
        let request = Request::new(Operation::Update, path);
        let operation = match self.backend.existence_check(request).await? {
            Existence::Absent => Operation::Create,
            Existence::Unknown | Existence::Exists => Operation::Update,
        };
        self.call(operation, path, body).await
    }

    pub(crate) async fn delete(&self, path: &str, body: Value) -> Answer {
        self.call(Operation::Delete, path, body).await
    }

    /// The server's periodic call.
    pub(crate) async fn tick(&self) -> Answer {
        self.call(Operation::Rollback, "", Value::Null).await
    }

    pub(crate) async fn call(&self, operation: Operation, path: &str, body: Value) -> Answer {
        self.call_for(CancellationToken::new(), operation, path, body)
            .await
    }

    /// The same for a caller who gives up when the token is cancelled. As on the server, the engine continues
    /// without the caller.
    pub(crate) async fn call_for(
        &self,
        caller_gone: CancellationToken,
        operation: Operation,
        path: &str,
        body: Value,
    ) -> Answer {
        let data = match body {
            Value::Object(fields) => fields,
            _ => Data::new(),
        };
        let mut request = Request::new(operation, path).with_data(data);
        request.caller_gone = caller_gone;
        let answer = self.backend.handle_request(request).await?;
        Ok(answer.map(Response::unfolded))
    }
}

/// Randomness that is the same in every run, so that a failure can be reproduced.
#[derive(Default)]
pub(crate) struct Foretellable(std::sync::atomic::AtomicU64);

impl Randomness for Foretellable {
    fn bytes(&self) -> [u8; 16] {
        let count = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let digest: [u8; 32] = Sha256::digest(count.to_be_bytes()).into();
        digest[..16].try_into().expect("sixteen bytes")
    }
}
