//! A Vault server's side of one mount: the storage, system view and events that it offers to the
//! plugin.
//!
//! The storage is in memory. Tests can inspect it, change it behind the plugin's back, and make it
//! reject calls. All calls of the plugin are counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;
use tonic::service::{Routes, RoutesBuilder};
use tonic::{Request, Response, Status, async_trait};
use vault_plugin_secrets_openrouter::logical::pb::backend as pb;
use vault_plugin_secrets_openrouter::logical::pb::backend::events_server::{Events, EventsServer};
use vault_plugin_secrets_openrouter::logical::pb::backend::storage_server::{
    Storage, StorageServer,
};
use vault_plugin_secrets_openrouter::logical::pb::backend::system_view_server::{
    SystemView, SystemViewServer,
};

/// The server's side of a mount. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct MountServer(Arc<Shared>);

/// How the server handles the plugin's calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    /// It carries them out.
    #[default]
    Obliging,
    /// It rejects writes with a text in the reply.
    ReadOnly,
    /// It rejects writes with a gRPC status.
    ReadOnlyByStatus,
    /// Storage and system view are missing, as during a plugin's registration.
    Absent,
}

/// How the server handles an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum EventBus {
    /// It is stored for the test.
    #[default]
    Takes,
    /// The server has no event bus.
    Unknown,
    /// The call is never answered.
    Hangs,
}

#[derive(Default)]
struct Shared {
    entries: Mutex<BTreeMap<String, Vec<u8>>>,
    events: Mutex<Vec<pb::SendEventRequest>>,
    mood: Mutex<Mood>,
    event_bus: Mutex<EventBus>,
    replication_state: AtomicI32,
    /// Whether writes are held.
    holds_writes: watch::Sender<bool>,
    storage_calls: AtomicUsize,
    system_calls: AtomicUsize,
}

/// Inspection and changes by a test.
impl MountServer {
    /// Changes how the plugin's calls are handled from now on.
    pub(crate) fn set_mood(&self, mood: Mood) {
        *self.0.mood.lock().unwrap() = mood;
    }

    /// Lets writes to storage wait from now on, or lets them go.
    pub(crate) fn hold_writes(&self, holds: bool) {
        self.0.holds_writes.send_replace(holds);
    }

    /// The number of writes that are held.
    pub(crate) fn held_writes(&self) -> usize {
        self.0.holds_writes.receiver_count()
    }

    /// Changes how events are handled from now on.
    pub(crate) fn set_event_bus(&self, event_bus: EventBus) {
        *self.0.event_bus.lock().unwrap() = event_bus;
    }

    /// The node's state, as the bits of `consts.ReplicationState`.
    pub(crate) fn set_replication_state(&self, bits: i32) {
        self.0.replication_state.store(bits, Ordering::SeqCst);
    }

    /// Puts an entry into storage behind the plugin's back.
    pub(crate) fn put_entry(&self, key: &str, value: Vec<u8>) {
        self.entries().insert(key.to_owned(), value);
    }

    /// The entry under a key.
    pub(crate) fn entry(&self, key: &str) -> Option<Vec<u8>> {
        self.entries().get(key).cloned()
    }

    /// All entries.
    pub(crate) fn stored(&self) -> BTreeMap<String, Vec<u8>> {
        self.entries().clone()
    }

    /// The keys below a prefix.
    pub(crate) fn keys_below(&self, prefix: &str) -> Vec<String> {
        let entries = self.entries();
        let below = entries.keys().filter(|key| key.starts_with(prefix));
        below.cloned().collect()
    }

    /// The number of storage calls.
    pub(crate) fn storage_calls(&self) -> usize {
        self.0.storage_calls.load(Ordering::SeqCst)
    }

    /// The number of system view calls.
    pub(crate) fn system_calls(&self) -> usize {
        self.0.system_calls.load(Ordering::SeqCst)
    }

    /// The accepted events.
    pub(crate) fn events(&self) -> Vec<pb::SendEventRequest> {
        self.0.events.lock().unwrap().clone()
    }

    /// The services for the plugin.
    pub(crate) fn services(&self) -> Routes {
        // As in go-plugin, whose servers accept messages of any size.
        let storage = StorageServer::new(self.clone())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        let mut services = RoutesBuilder::default();
        services
            .add_service(storage)
            .add_service(SystemViewServer::new(self.clone()));
        // OpenBao does not have this service, which differs from a service that rejects calls.
        if *self.0.event_bus.lock().unwrap() != EventBus::Unknown {
            services.add_service(EventsServer::new(self.clone()));
        }
        services.routes()
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.0.entries.lock().unwrap()
    }

    fn mood(&self) -> Mood {
        *self.0.mood.lock().unwrap()
    }

    fn reading(&self) -> Result<(), Status> {
        self.0.storage_calls.fetch_add(1, Ordering::SeqCst);
        self.present()
    }

    /// The text of the reply, if it is an error.
    async fn writing(&self) -> Result<Option<String>, Status> {
        self.reading()?;
        let mut holds_writes = self.0.holds_writes.subscribe();
        let released = holds_writes.wait_for(|holds| !holds).await;
        released.map_err(|_| Status::cancelled("the server is gone"))?;
        match self.mood() {
            Mood::ReadOnly => Ok(Some(format!("1 error occurred: {READ_ONLY}"))),
            Mood::ReadOnlyByStatus => Err(Status::unknown(READ_ONLY)),
            _ => Ok(None),
        }
    }

    fn system_call(&self) -> Result<(), Status> {
        self.0.system_calls.fetch_add(1, Ordering::SeqCst);
        self.present()
    }

    fn present(&self) -> Result<(), Status> {
        match self.mood() {
            Mood::Absent => Err(Status::unknown("missing implementation")),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Storage for MountServer {
    async fn list(
        &self,
        request: Request<pb::StorageListArgs>,
    ) -> Result<Response<pb::StorageListReply>, Status> {
        self.reading()?;
        let prefix = request.into_inner().prefix;
        let mut keys: Vec<String> = self
            .entries()
            .keys()
            .filter_map(|key| key.strip_prefix(&prefix))
            .map(|name| match name.split_once('/') {
                Some((folder, _)) => format!("{folder}/"),
                None => name.to_owned(),
            })
            .collect();
        keys.dedup();
        let err = String::new();
        Ok(Response::new(pb::StorageListReply { keys, err }))
    }

    async fn get(
        &self,
        request: Request<pb::StorageGetArgs>,
    ) -> Result<Response<pb::StorageGetReply>, Status> {
        self.reading()?;
        let key = request.into_inner().key;
        let entry = self.entry(&key).map(|value| pb::StorageEntry {
            key,
            value,
            seal_wrap: false,
        });
        let err = String::new();
        Ok(Response::new(pb::StorageGetReply { entry, err }))
    }

    async fn put(
        &self,
        request: Request<pb::StoragePutArgs>,
    ) -> Result<Response<pb::StoragePutReply>, Status> {
        let refused = self.writing().await?;
        if refused.is_none() {
            let entry = request.into_inner().entry.unwrap();
            self.put_entry(&entry.key, entry.value);
        }
        let err = refused.unwrap_or_default();
        Ok(Response::new(pb::StoragePutReply { err }))
    }

    async fn delete(
        &self,
        request: Request<pb::StorageDeleteArgs>,
    ) -> Result<Response<pb::StorageDeleteReply>, Status> {
        let refused = self.writing().await?;
        if refused.is_none() {
            self.entries().remove(&request.into_inner().key);
        }
        let err = refused.unwrap_or_default();
        Ok(Response::new(pb::StorageDeleteReply { err }))
    }
}

#[async_trait]
impl SystemView for MountServer {
    async fn default_lease_ttl(
        &self,
        _: Request<pb::Empty>,
    ) -> Result<Response<pb::TtlReply>, Status> {
        self.system_call()?;
        Ok(Response::new(pb::TtlReply { ttl: LEASE_TTL }))
    }

    async fn max_lease_ttl(&self, _: Request<pb::Empty>) -> Result<Response<pb::TtlReply>, Status> {
        self.system_call()?;
        Ok(Response::new(pb::TtlReply { ttl: LEASE_TTL }))
    }

    async fn tainted(&self, _: Request<pb::Empty>) -> Result<Response<pb::TaintedReply>, Status> {
        self.system_call()?;
        Ok(Response::new(pb::TaintedReply::default()))
    }

    async fn replication_state(
        &self,
        _: Request<pb::Empty>,
    ) -> Result<Response<pb::ReplicationStateReply>, Status> {
        self.system_call()?;
        let state = self.0.replication_state.load(Ordering::SeqCst);
        Ok(Response::new(pb::ReplicationStateReply { state }))
    }

    async fn mlock_enabled(
        &self,
        _: Request<pb::Empty>,
    ) -> Result<Response<pb::MlockEnabledReply>, Status> {
        self.system_call()?;
        Ok(Response::new(pb::MlockEnabledReply::default()))
    }

    async fn local_mount(
        &self,
        _: Request<pb::Empty>,
    ) -> Result<Response<pb::LocalMountReply>, Status> {
        self.system_call()?;
        Ok(Response::new(pb::LocalMountReply::default()))
    }

    async fn entity_info(
        &self,
        _: Request<pb::EntityInfoArgs>,
    ) -> Result<Response<pb::EntityInfoReply>, Status> {
        self.system_call()?;
        Ok(Response::new(pb::EntityInfoReply::default()))
    }

    async fn plugin_env(
        &self,
        _: Request<pb::Empty>,
    ) -> Result<Response<pb::PluginEnvReply>, Status> {
        self.system_call()?;
        Ok(Response::new(pb::PluginEnvReply::default()))
    }
}

#[async_trait]
impl Events for MountServer {
    async fn send_event(
        &self,
        request: Request<pb::SendEventRequest>,
    ) -> Result<Response<pb::Empty>, Status> {
        let event_bus = *self.0.event_bus.lock().unwrap();
        if event_bus == EventBus::Hangs {
            std::future::pending::<()>().await;
        }
        self.0.events.lock().unwrap().push(request.into_inner());
        Ok(Response::new(pb::Empty {}))
    }
}

/// Vault's default for both lease durations, 32 days, in nanoseconds.
const LEASE_TTL: i64 = 32 * 24 * 60 * 60 * 1_000_000_000;

const READ_ONLY: &str = "cannot write to readonly storage";
