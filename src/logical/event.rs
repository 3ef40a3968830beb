//! Events for the server's event bus, where it has one.

use std::collections::BTreeMap;

use async_trait::async_trait;

/// Something that happened. Vault Enterprise passes it to subscribers, Vault Community drops it,
/// OpenBao knows no events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `<plugin>/<what-happened>`.
    pub kind: &'static str,
    /// A unique id.
    pub id: String,
    /// Text only, and no secrets: subscribers with few rights read it.
    pub metadata: BTreeMap<&'static str, String>,
}

/// Takes events. Never fails: an event is news, not a record.
#[async_trait]
pub trait EventSink: Send + Sync {
    /// Hands the event over and forgets it.
    async fn send(&self, event: Event);
}

/// Drops every event.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoEvents;

#[async_trait]
impl EventSink for NoEvents {
    async fn send(&self, _event: Event) {}
}
