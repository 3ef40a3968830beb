//! The host's storage, system view and event bus, called over a mount's brokered connection.

use std::time::Duration;

use async_trait::async_trait;
use prost_types::{Struct, Value, value::Kind};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::convert::duration;
use super::pb::backend as pb;
use super::pb::backend::events_client::EventsClient;
use super::pb::backend::storage_client::StorageClient;
use super::pb::backend::system_view_client::SystemViewClient;
use super::pb::logical::EventData;
use super::{
    Entry, Event, EventSink, LARGEST_MESSAGE, ReplicationState, Storage, StorageError, SystemView,
    SystemViewError,
};

/// `pb.Storage` on the host.
pub(super) struct RemoteStorage(StorageClient<Channel>);

impl RemoteStorage {
    /// Lifts tonic's limit of 4 MiB: the server decides how large a stored value may be.
    pub(super) fn new(channel: Channel) -> Self {
        Self(
            StorageClient::new(channel)
                .max_decoding_message_size(LARGEST_MESSAGE)
                .max_encoding_message_size(LARGEST_MESSAGE),
        )
    }
}

#[async_trait]
impl Storage for RemoteStorage {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        let key = key.to_owned();
        let reply = self.0.clone().get(pb::StorageGetArgs { key }).await;
        let reply = reply.map_err(lost)?.into_inner();
        said(&reply.err)?;
        Ok(reply.entry.map(|entry| entry.value))
    }

    async fn put(&self, entry: Entry) -> Result<(), StorageError> {
        let entry = pb::StorageEntry {
            key: entry.key,
            value: entry.value,
            // `SpecialPaths::seal_wrap_storage` wraps whole prefixes instead.
            seal_wrap: false,
        };
        let args = pb::StoragePutArgs { entry: Some(entry) };
        let reply = self.0.clone().put(args).await;
        said(&reply.map_err(lost)?.into_inner().err)
    }

    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        let key = key.to_owned();
        let reply = self.0.clone().delete(pb::StorageDeleteArgs { key }).await;
        said(&reply.map_err(lost)?.into_inner().err)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        let prefix = prefix.to_owned();
        let reply = self.0.clone().list(pb::StorageListArgs { prefix }).await;
        let reply = reply.map_err(lost)?.into_inner();
        said(&reply.err)?;
        Ok(reply.keys)
    }
}

/// `pb.SystemView` on the host.
pub(super) struct RemoteSystemView(SystemViewClient<Channel>);

impl RemoteSystemView {
    pub(super) fn new(channel: Channel) -> Self {
        Self(SystemViewClient::new(channel))
    }
}

#[async_trait]
impl SystemView for RemoteSystemView {
    async fn max_lease_ttl(&self) -> Result<Duration, SystemViewError> {
        let reply = self.0.clone().max_lease_ttl(pb::Empty {}).await;
        Ok(duration(reply.map_err(unseen)?.into_inner().ttl))
    }

    async fn replication_state(&self) -> Result<ReplicationState, SystemViewError> {
        let reply = self.0.clone().replication_state(pb::Empty {}).await;
        Ok(ReplicationState(reply.map_err(unseen)?.into_inner().state))
    }

    async fn local_mount(&self) -> Result<bool, SystemViewError> {
        let reply = self.0.clone().local_mount(pb::Empty {}).await;
        Ok(reply.map_err(unseen)?.into_inner().local)
    }

    async fn tainted(&self) -> Result<bool, SystemViewError> {
        let reply = self.0.clone().tainted(pb::Empty {}).await;
        Ok(reply.map_err(unseen)?.into_inner().tainted)
    }

    async fn entity_name(&self, entity_id: &str) -> Result<Option<String>, SystemViewError> {
        let args = pb::EntityInfoArgs {
            entity_id: entity_id.to_owned(),
        };
        let reply = self.0.clone().entity_info(args).await;
        let reply = reply.map_err(unseen)?.into_inner();
        if !reply.err.is_empty() {
            return Err(SystemViewError(reply.err));
        }
        Ok(reply.entity.map(|entity| entity.name))
    }
}

/// `pb.Events` on the host.
pub(super) struct RemoteEvents(EventsClient<Channel>);

impl RemoteEvents {
    pub(super) fn new(channel: Channel) -> Self {
        Self(EventsClient::new(channel))
    }
}

#[async_trait]
impl EventSink for RemoteEvents {
    async fn send(&self, event: Event) {
        let text = |text: String| Value {
            kind: Some(Kind::StringValue(text)),
        };
        let metadata = Struct {
            fields: event
                .metadata
                .into_iter()
                .map(|(name, value)| (name.to_owned(), text(value)))
                .collect(),
        };
        let request = pb::SendEventRequest {
            event_type: event.kind.to_owned(),
            event: Some(EventData {
                id: event.id,
                metadata: Some(metadata),
                ..EventData::default()
            }),
        };
        let mut events = self.0.clone();
        match timeout(EVENT_WAIT, events.send_event(request)).await {
            Ok(Ok(_)) => {}
            // OpenBao, and Vault before 1.13.
            Ok(Err(status)) if status.code() == Code::Unimplemented => {
                tracing::trace!("the server has no event bus");
            }
            Ok(Err(status)) => {
                tracing::debug!(reason = status.message(), "the server rejected an event");
            }
            Err(_) => tracing::debug!("the server did not accept an event in time"),
        }
    }
}

/// A storage error arrives either as a gRPC status or as text in the reply.
fn lost(status: Status) -> StorageError {
    StorageError::from_text(status.message())
}

fn said(error: &str) -> Result<(), StorageError> {
    if error.is_empty() {
        Ok(())
    } else {
        Err(StorageError::from_text(error))
    }
}

fn unseen(status: Status) -> SystemViewError {
    SystemViewError(status.message().to_owned())
}

/// The sender holds locks and its caller waits, and an event is not worth a longer wait. This does not
/// run as a separate task, because that would keep the connection open after the mount is gone.
const EVENT_WAIT: Duration = Duration::from_secs(2);
