//! The live side of connections: an API client for each, kept while its entry stays the same, and
//! the rules that OpenRouter sees at most eight requests of a connection at a time, and that no more
//! than sixteen of its keys are in the making at a time.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::entry::{Connection, ConnectionName};
use crate::engine::error::Error;
use crate::framework::Locks;
use crate::logical::Storage;
use crate::openrouter::{Client, Network};

/// The clients of a mount's connections.
pub struct Links {
    network: Arc<dyn Network>,
    // Plain mutexes: neither is ever held across an await.
    clients: Mutex<HashMap<ConnectionName, Client>>,
    permits: Mutex<HashMap<ConnectionName, Permits>>,
    loading: Locks,
}

impl Links {
    /// No links yet; requests will go over this network.
    pub fn new(network: Arc<dyn Network>) -> Self {
        Self {
            network,
            clients: Mutex::default(),
            permits: Mutex::default(),
            loading: Locks::default(),
        }
    }

    /// The link of a connection. Reads its entry when no client is at hand.
    ///
    /// # Errors
    /// [`Error::Missing`] when there is no such connection, with the path to write.
    pub async fn open(&self, storage: &dyn Storage, name: &ConnectionName) -> Result<Link, Error> {
        // One loader at a time, or a slow one could bring back a client that was just dropped.
        let _loading = self.loading.lock(&name.key()).await;
        let known = lock(&self.clients).get(name).cloned();
        let client = match known {
            Some(client) => client,
            None => {
                let connection = Connection::load(storage, name)
                    .await?
                    .ok_or_else(|| missing(name))?;
                let client = Client::new(&connection.settings(), &*self.network)?;
                lock(&self.clients).insert(name.clone(), client.clone());
                client
            }
        };
        Ok(self.through(name, client))
    }

    /// A link with settings that are not stored yet, under the same limit.
    ///
    /// # Errors
    /// When no client can be made from them.
    pub fn trial(&self, name: &ConnectionName, connection: &Connection) -> Result<Link, Error> {
        let client = Client::new(&connection.settings(), &*self.network)?;
        Ok(self.through(name, client))
    }

    /// The entry has changed, or is gone. Requests under way end with the old client.
    pub async fn forget(&self, name: &ConnectionName) {
        let _loading = self.loading.lock(&name.key()).await;
        lock(&self.clients).remove(name);
    }

    fn through(&self, name: &ConnectionName, client: Client) -> Link {
        let mut permits = lock(&self.permits);
        let permits = permits.entry(name.clone()).or_default().clone();
        Link { client, permits }
    }
}

/// What all links of a connection share.
#[derive(Clone)]
struct Permits {
    requests: Arc<Semaphore>,
    orders: Arc<Semaphore>,
}

impl Default for Permits {
    fn default() -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self {
            requests: semaphore(REQUESTS_AT_A_TIME),
            orders: semaphore(KEYS_IN_THE_MAKING),
        }
    }
}

/// A way to OpenRouter.
#[derive(Clone)]
pub struct Link {
    client: Client,
    permits: Permits,
}

impl Link {
    /// The client, for one request: wait for a turn, and give it back by dropping the result.
    pub async fn client(&self) -> Turn {
        Turn {
            client: self.client.clone(),
            _permit: acquire(&self.permits.requests).await,
        }
    }

    /// Room for one more key in the making: wait for it before the order, and give it back by
    /// dropping the result once the key is in service, or given up.
    ///
    /// Where a thousand roles are due at once they are thus rotated one after the other, not all
    /// ordered and then all proved: a crash leaves a few keys that nobody knows, not a thousand, and
    /// a revocation does not wait behind a thousand orders.
    pub async fn making(&self) -> Making {
        Making {
            _permit: acquire(&self.permits.orders).await,
        }
    }
}

/// A key may be made now.
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

/// What to do about a connection that is not there.
pub fn missing(name: &ConnectionName) -> Error {
    let path = if *name == ConnectionName::default() {
        "config".to_owned()
    } else {
        name.key()
    };
    Error::Missing(format!(
        "there is no connection {:?}; write one to the path {path:?} of this mount, with a \
         management_key",
        name.to_string()
    ))
}

/// Fails only for a closed semaphore, and nothing here closes one.
async fn acquire(permits: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(permits).acquire_owned().await.ok()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Across all roles of a connection.
const REQUESTS_AT_A_TIME: usize = 8;
/// Twice that, so that no request waits for the storage calls between those of a key.
const KEYS_IN_THE_MAKING: usize = 2 * REQUESTS_AT_A_TIME;
