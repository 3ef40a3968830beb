//! What the server tells a node about its mount, as long as the node is alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use vault_plugin_secrets_openrouter::logical::{ReplicationState, SystemView, SystemViewError};

use super::effects::Life;

/// The system view of one node. A dead node gets no more answers: otherwise its keeper would continue to call
/// OpenRouter with what it remembers, through a gate that already serves its successor.
pub(crate) struct NodeSystem {
    system: Arc<dyn SystemView>,
    life: Arc<Life>,
    calls: AtomicUsize,
}

impl NodeSystem {
    pub(crate) fn new(system: Arc<dyn SystemView>, life: Arc<Life>) -> Self {
        Self {
            system,
            life,
            calls: AtomicUsize::new(0),
        }
    }

    /// The number of calls of any kind.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    async fn of_the_living(&self) -> &dyn SystemView {
        self.life.checkpoint().await;
        self.calls.fetch_add(1, Ordering::Relaxed);
        &*self.system
    }
}

#[async_trait]
impl SystemView for NodeSystem {
    async fn max_lease_ttl(&self) -> Result<Duration, SystemViewError> {
        self.of_the_living().await.max_lease_ttl().await
    }

    async fn replication_state(&self) -> Result<ReplicationState, SystemViewError> {
        self.of_the_living().await.replication_state().await
    }

    async fn local_mount(&self) -> Result<bool, SystemViewError> {
        self.of_the_living().await.local_mount().await
    }

    async fn tainted(&self) -> Result<bool, SystemViewError> {
        self.of_the_living().await.tainted().await
    }

    async fn entity_name(&self, id: &str) -> Result<Option<String>, SystemViewError> {
        self.of_the_living().await.entity_name(id).await
    }
}
