//! The limits of a connection: eight concurrent requests, and sixteen keys that are being created.
//!
//! If all eight requests hang, revocations and emergencies would have to wait until they time out. Each of
//! the two therefore has one additional place of its own.

use std::ops::Deref;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::openrouter::Client;

/// The urgency of a request: which others it must not wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Everything else.
    Ordinary,
    /// A key has to be revoked.
    Revocation,
    /// A person revokes a key that has leaked.
    Emergency,
}

/// Shared by all requests of a connection.
#[derive(Clone)]
pub(super) struct Turns {
    requests: Arc<Semaphore>,
    revocations: Arc<Semaphore>,
    emergencies: Arc<Semaphore>,
    orders: Arc<Semaphore>,
}

impl Default for Turns {
    fn default() -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self {
            requests: semaphore(REQUEST_CONCURRENCY),
            revocations: semaphore(1),
            emergencies: semaphore(1),
            orders: semaphore(ORDER_CONCURRENCY),
        }
    }
}

impl Turns {
    pub(super) async fn turn(&self, client: &Client, urgency: Urgency) -> Turn {
        // In this order, so that the reserved place is used only if no other is free.
        let permit = match urgency {
            Urgency::Ordinary => acquire(&self.requests).await,
            Urgency::Revocation => tokio::select! {
                biased;
                permit = acquire(&self.requests) => permit,
                permit = acquire(&self.revocations) => permit,
            },
            Urgency::Emergency => tokio::select! {
                biased;
                permit = acquire(&self.requests) => permit,
                permit = acquire(&self.emergencies) => permit,
            },
        };
        Turn {
            client: client.clone(),
            _permit: permit,
        }
    }

    pub(super) async fn making(&self, urgency: Urgency) -> Making {
        let permit = match urgency {
            Urgency::Ordinary | Urgency::Revocation => acquire(&self.orders).await,
            Urgency::Emergency => Arc::clone(&self.orders).try_acquire_owned().ok(),
        };
        Making { _permit: permit }
    }
}

/// The right to create a key. It is taken before the order, and dropped once the key is in service or given
/// up.
///
/// If a thousand roles are due at once, they are therefore rotated one after the other, and not all ordered
/// first and then all verified. A crash leaves a few unknown keys behind instead of a thousand, and a
/// revocation does not wait for a thousand orders. An emergency does not wait for this right.
pub struct Making {
    _permit: Option<OwnedSemaphorePermit>,
}

/// A client with the right to one request.
pub struct Turn {
    client: Client,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Deref for Turn {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// Fails only for a closed semaphore. None is ever closed here.
async fn acquire(permits: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(permits).acquire_owned().await.ok()
}

/// Across all roles of a connection.
const REQUEST_CONCURRENCY: usize = 8;
/// Twice that, so that requests continue during the storage calls of other keys.
const ORDER_CONCURRENCY: usize = 2 * REQUEST_CONCURRENCY;
