//! How many requests OpenRouter sees of a connection at a time, and how many of its keys are in the
//! making: eight and sixteen.
//!
//! Where all eight hang, revocations and emergencies would wait behind them for as long as a request
//! may take. Each of the two has one place more, which nobody else takes.

use std::ops::Deref;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::openrouter::Client;

/// What a request is for, by who it must not wait behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Everything else.
    Ordinary,
    /// A key must die.
    Revocation,
    /// A person is getting rid of a key that somebody has who should not.
    Emergency,
}

/// What all requests of a connection share.
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
            requests: semaphore(REQUESTS_AT_A_TIME),
            revocations: semaphore(1),
            emergencies: semaphore(1),
            orders: semaphore(KEYS_IN_THE_MAKING),
        }
    }
}

impl Turns {
    pub(super) async fn turn(&self, client: &Client, urgency: Urgency) -> Turn {
        // In this order, so that a place of one's own is taken only where there is no other.
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

/// A key may be made now: taken before the order, given back by dropping it once the key is in
/// service, or given up.
///
/// Where a thousand roles are due at once they are thus rotated one after the other, not all ordered
/// and then all proved: a crash leaves a few keys that nobody knows, not a thousand, and a revocation
/// does not wait behind a thousand orders. An emergency does not wait for room.
pub struct Making {
    _permit: Option<OwnedSemaphorePermit>,
}

/// A client that may make a request now.
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

/// Fails only for a closed semaphore, and nothing here closes one.
async fn acquire(permits: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(permits).acquire_owned().await.ok()
}

/// Across all roles of a connection.
const REQUESTS_AT_A_TIME: usize = 8;
/// Twice that, so that no request waits for the storage calls between those of a key.
const KEYS_IN_THE_MAKING: usize = 2 * REQUESTS_AT_A_TIME;
