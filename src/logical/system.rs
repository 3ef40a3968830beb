//! What the server tells an engine about the mount and the node.

use std::time::Duration;

use async_trait::async_trait;

/// The server's view of one mount. Calls are local to the server, and cheap.
#[async_trait]
pub trait SystemView: Send + Sync {
    /// The longest lease that the server will grant on this mount.
    async fn max_lease_ttl(&self) -> Result<Duration, SystemViewError>;

    /// The role of this node within its cluster.
    async fn replication_state(&self) -> Result<ReplicationState, SystemViewError>;

    /// Whether the mount is local to this cluster, and therefore writable on a performance secondary.
    async fn local_mount(&self) -> Result<bool, SystemViewError>;

    /// The name of an identity entity; `None` if the server does not know it.
    async fn entity_name(&self, entity_id: &str) -> Result<Option<String>, SystemViewError>;

    /// Whether the mount is being disabled. Not every server says so.
    async fn tainted(&self) -> Result<bool, SystemViewError> {
        Ok(false)
    }

    /// Whether the engine may write here and act on the outside world. It may not on a performance
    /// standby or a disaster-recovery secondary, and on a performance secondary only for a local mount.
    async fn may_write(&self) -> Result<bool, SystemViewError> {
        self.may_write_as(self.replication_state().await?).await
    }

    /// The same, for a caller that already knows the node's state.
    async fn may_write_as(&self, state: ReplicationState) -> Result<bool, SystemViewError> {
        if state.is_standby() || state.is_dr_secondary() {
            return Ok(false);
        }
        Ok(!state.is_performance_secondary() || self.local_mount().await?)
    }
}

/// The server could not be queried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("system view: {0}")]
pub struct SystemViewError(pub String);

impl From<SystemViewError> for super::Error {
    fn from(error: SystemViewError) -> Self {
        Self::Internal(error.to_string())
    }
}

/// The role of a node within its cluster: a bit set, `consts.ReplicationState` of Vault's SDK.
///
/// OpenBao uses the same bits. A node may write only if the three bits read here are *absent*: a node
/// without replication and a primary set different other bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplicationState(pub i32);

impl ReplicationState {
    /// A performance secondary.
    pub const PERFORMANCE_SECONDARY: Self = Self(64);
    /// A disaster-recovery secondary.
    pub const DR_SECONDARY: Self = Self(512);
    /// A performance standby, or OpenBao's read-enabled standby.
    pub const PERFORMANCE_STANDBY: Self = Self(16384);

    /// Whether this node is a standby that serves reads.
    pub fn is_standby(self) -> bool {
        self.has(Self::PERFORMANCE_STANDBY)
    }

    /// Whether this cluster follows another one and serves no requests.
    pub fn is_dr_secondary(self) -> bool {
        self.has(Self::DR_SECONDARY)
    }

    /// Whether this cluster follows another one and serves reads.
    pub fn is_performance_secondary(self) -> bool {
        self.has(Self::PERFORMANCE_SECONDARY)
    }

    fn has(self, bit: Self) -> bool {
        self.0 & bit.0 != 0
    }
}

/// A system view that always gives the same answers, for tests of engines.
#[derive(Debug, Clone)]
pub struct FixedSystemView {
    /// See [`SystemView::max_lease_ttl`].
    pub max_lease_ttl: Duration,
    /// See [`SystemView::replication_state`].
    pub replication_state: ReplicationState,
    /// See [`SystemView::local_mount`].
    pub local_mount: bool,
    /// The name of every entity.
    pub entity_name: Option<String>,
    /// See [`SystemView::tainted`].
    pub tainted: bool,
}

impl Default for FixedSystemView {
    /// A single server with Vault's default of 32 days.
    fn default() -> Self {
        Self {
            max_lease_ttl: THIRTY_TWO_DAYS,
            replication_state: ReplicationState::default(),
            local_mount: false,
            entity_name: None,
            tainted: false,
        }
    }
}

#[async_trait]
impl SystemView for FixedSystemView {
    async fn max_lease_ttl(&self) -> Result<Duration, SystemViewError> {
        Ok(self.max_lease_ttl)
    }

    async fn replication_state(&self) -> Result<ReplicationState, SystemViewError> {
        Ok(self.replication_state)
    }

    async fn local_mount(&self) -> Result<bool, SystemViewError> {
        Ok(self.local_mount)
    }

    async fn tainted(&self) -> Result<bool, SystemViewError> {
        Ok(self.tainted)
    }

    async fn entity_name(&self, _: &str) -> Result<Option<String>, SystemViewError> {
        Ok(self.entity_name.clone())
    }
}

const THIRTY_TWO_DAYS: Duration = Duration::from_secs(32 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    async fn may_write(bits: i32, local_mount: bool) -> bool {
        let view = FixedSystemView {
            replication_state: ReplicationState(bits),
            local_mount,
            ..FixedSystemView::default()
        };
        view.may_write().await.unwrap()
    }

    #[tokio::test]
    async fn a_single_server_and_an_active_node_may_write() {
        assert!(may_write(0, false).await);
        assert!(may_write(4096 | 8192, false).await, "replication disabled");
        assert!(may_write(32 | 8192, false).await, "primary");
    }

    #[tokio::test]
    async fn standbys_and_secondaries_may_not_write() {
        assert!(!may_write(16384 | 32, false).await, "performance standby");
        assert!(!may_write(512, true).await, "DR secondary, local or not");
        assert!(!may_write(64, false).await, "performance secondary");
        assert!(may_write(64, true).await, "its local mounts are its own");
        assert!(!may_write(64 | 16384, true).await, "a standby of it");
    }
}
