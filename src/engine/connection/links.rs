//! The clients of connections: an API client for each, kept until its entry changes, and a count of the
//! operations that are creating something through it.
//!
//! The limits on concurrent requests are in [`turns`](super::turns).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::bounds::Bounds;
use super::entry::Connection;
use super::metered::{Heartbeats, Meter, Metered, Pulse};
use super::turns::{Making, Turn, Turns, Urgency};
use crate::engine::clock::Clock;
use crate::engine::error::Error;
use crate::engine::meters::Meters;
use crate::engine::names::{Address, ConnectionName};
use crate::framework::Locks;
use crate::logical::Storage;
use crate::openrouter::{Client, Network};

/// The clients of a mount's connections.
pub struct Links {
    network: Arc<dyn Network>,
    meter: Meter,
    // Plain mutexes: they are never held across an await.
    known: Mutex<HashMap<ConnectionName, Known>>,
    turns: Mutex<HashMap<ConnectionName, Turns>>,
    uses: Arc<Mutex<HashMap<ConnectionName, Uses>>>,
    pulses: Mutex<HashMap<ConnectionName, Arc<Pulse>>>,
    loading: Locks,
}

impl Links {
    /// No links yet. Requests use this network and are counted.
    pub fn new(network: Arc<dyn Network>, meters: Arc<Meters>, clock: Arc<dyn Clock>) -> Self {
        Self {
            network,
            meter: Meter { meters, clock },
            known: Mutex::default(),
            turns: Mutex::default(),
            uses: Arc::default(),
            pulses: Mutex::default(),
            loading: Locks::default(),
        }
    }

    /// The link of a connection. Reads its entry if there is no client yet.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no such connection, with the path to write.
    pub async fn open(&self, storage: &dyn Storage, name: &ConnectionName) -> Result<Link, Error> {
        // One at a time, or a slow load could bring back a client that was just dropped.
        let _loading = self.loading.lock(&name.key()).await;
        let known = lock(&self.known).get(name).cloned();
        let known = match known {
            Some(known) => known,
            None => {
                let connection = Connection::load(storage, name)
                    .await?
                    .ok_or_else(|| missing(name))?;
                let pulse = Arc::clone(lock(&self.pulses).entry(name.clone()).or_default());
                let network = self.metered(Some(pulse));
                let client = Client::new(&connection.settings(), &network)?;
                let known = Known {
                    client,
                    address: connection.address,
                    reconcile_interval: connection.reconcile_interval,
                    bounds: Arc::new(connection.bounds),
                };
                lock(&self.known).insert(name.clone(), known.clone());
                known
            }
        };
        Ok(self.through(name, known))
    }

    /// A link with settings that are not stored yet, with the same limits on concurrent requests.
    ///
    /// # Errors
    /// If no client can be created from the settings.
    pub fn trial(&self, name: &ConnectionName, connection: &Connection) -> Result<Link, Error> {
        let client = Client::new(&connection.settings(), &self.metered(None))?;
        let known = Known {
            client,
            address: connection.address.clone(),
            reconcile_interval: connection.reconcile_interval,
            bounds: Arc::new(connection.bounds.clone()),
        };
        Ok(self.through(name, known))
    }

    /// Drops the client of an entry that has changed or is gone. Requests in flight finish with it.
    pub async fn forget(&self, name: &ConnectionName) {
        let _loading = self.loading.lock(&name.key()).await;
        lock(&self.known).remove(name);
    }

    /// Prevents the deletion of the connection while something that needs it is being created.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it is being deleted.
    pub fn use_for_making(&self, name: &ConnectionName) -> Result<InUse, Error> {
        let mut uses = lock(&self.uses);
        let at_it = uses.entry(name.clone()).or_default();
        if at_it.closed {
            return Err(Error::Conflict(format!(
                "connection {:?} is being deleted",
                name.to_string()
            )));
        }
        at_it.makers += 1;
        Ok(InUse(self.handle(name)))
    }

    /// Prevents the creation of anything that needs the connection, so that it can be deleted.
    ///
    /// # Errors
    /// [`Error::Conflict`] if something is being created.
    pub fn close(&self, name: &ConnectionName) -> Result<Closed, Error> {
        let mut uses = lock(&self.uses);
        let at_it = uses.entry(name.clone()).or_default();
        if at_it.makers > 0 || at_it.closed {
            return Err(Error::Conflict(format!(
                "connection {:?} is in use: {} keys or roles are being created with it; try again \
                 later",
                name.to_string(),
                at_it.makers
            )));
        }
        at_it.closed = true;
        Ok(Closed(self.handle(name)))
    }

    /// When a connection last succeeded and failed in this process.
    pub fn heartbeats(&self, name: &ConnectionName) -> Heartbeats {
        let pulses = lock(&self.pulses);
        pulses
            .get(name)
            .map(|pulse| pulse.last())
            .unwrap_or_default()
    }

    fn metered(&self, pulse: Option<Arc<Pulse>>) -> Metered<'_> {
        Metered {
            network: &*self.network,
            meter: self.meter.clone(),
            pulse,
        }
    }

    fn handle(&self, name: &ConnectionName) -> Handle {
        Handle {
            uses: Arc::clone(&self.uses),
            name: name.clone(),
        }
    }

    fn through(&self, name: &ConnectionName, known: Known) -> Link {
        let mut turns = lock(&self.turns);
        let turns = turns.entry(name.clone()).or_default().clone();
        Link { known, turns }
    }
}

/// The shared state of a connection.
#[derive(Clone)]
struct Known {
    client: Client,
    address: Address,
    reconcile_interval: u64,
    bounds: Arc<Bounds>,
}

/// A way to OpenRouter.
#[derive(Clone)]
pub struct Link {
    known: Known,
    turns: Turns,
}

impl Link {
    /// The client, for one request. Waits for a turn, which ends when the result is dropped.
    pub async fn client(&self, urgency: Urgency) -> Turn {
        self.turns.turn(&self.known.client, urgency).await
    }

    /// Waits until one more key may be created; see [`Making`].
    pub async fn making(&self, urgency: Urgency) -> Making {
        self.turns.making(urgency).await
    }

    /// The address of its requests.
    pub fn address(&self) -> &Address {
        &self.known.address
    }

    /// The time between two comparisons with OpenRouter, in seconds; 0 compares only when the work begins.
    pub fn reconcile_interval(&self) -> u64 {
        self.known.reconcile_interval
    }

    /// The bounds of the roles that use the connection.
    pub fn bounds(&self) -> &Bounds {
        &self.known.bounds
    }
}

/// How many operations are creating something through a connection, and whether that is allowed.
#[derive(Default)]
struct Uses {
    makers: usize,
    closed: bool,
}

/// While this exists the connection cannot be deleted; see [`Links::use_for_making`].
pub struct InUse(Handle);

/// While this exists nothing can be created through the connection; see [`Links::close`].
pub struct Closed(Handle);

struct Handle {
    uses: Arc<Mutex<HashMap<ConnectionName, Uses>>>,
    name: ConnectionName,
}

impl Handle {
    fn change(&self, change: impl FnOnce(&mut Uses)) {
        let mut uses = lock(&self.uses);
        if let Some(at_it) = uses.get_mut(&self.name) {
            change(at_it);
            if at_it.makers == 0 && !at_it.closed {
                uses.remove(&self.name);
            }
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.change(|uses| uses.makers -= 1);
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.change(|uses| uses.closed = false);
    }
}

/// The error for a connection that does not exist.
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

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
