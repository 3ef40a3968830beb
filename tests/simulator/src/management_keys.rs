//! Management keys: they manage keys, span all workspaces and buy no completions.

use jiff::Timestamp;

use crate::keys::masked;
use crate::randomness::hash_of;

/// A key that manages keys and buys no completions.
#[derive(Clone, Debug)]
pub(crate) struct ManagementKey {
    pub(crate) hash: String,
    pub(crate) label: String,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) revoked: bool,
}

impl ManagementKey {
    pub(crate) fn new(secret: &str) -> Self {
        Self {
            hash: hash_of(secret),
            label: masked(secret),
            expires_at: None,
            revoked: false,
        }
    }

    pub(crate) fn is_usable(&self, now: Timestamp) -> bool {
        !self.revoked && self.expires_at.is_none_or(|expiry| expiry > now)
    }
}
