//! Events for the server's event bus, if it has one.

use std::collections::BTreeMap;

use async_trait::async_trait;

/// Something that happened. Vault Enterprise passes it to subscribers, Vault Community drops it, and
/// OpenBao has no events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `<plugin>/<what-happened>`.
    pub kind: &'static str,
    /// A unique id.
    pub id: String,
    /// Text only, and no secrets: subscribers with few permissions can read it.
    pub metadata: BTreeMap<&'static str, String>,
}

/// Receives events. Never fails: an event is a notification, not a record.
#[async_trait]
pub trait EventSink: Send + Sync {
    /// Sends the event and ignores the outcome.
    async fn send(&self, event: Event);
}

/// Drops every event.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoEvents;

#[async_trait]
impl EventSink for NoEvents {
    async fn send(&self, _event: Event) {}
}
