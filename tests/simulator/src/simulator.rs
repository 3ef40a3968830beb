//! Starting and stopping: one simulator is one listening address and its state.
//!
//! Tests keep a [`Simulator`] as long as they need OpenRouter; the binary keeps one until it is
//! stopped.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::{Router, middleware};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::account::Account;
use crate::billing::Billing;
use crate::clock::Clock;
use crate::pipeline::BASE_PATH;
use crate::randomness::Randomness;
use crate::requests::RequestLog;
use crate::script::FaultScript;
use crate::state::Shared;
use crate::validation::is_uuid;
use crate::{api, control, pipeline, server};

/// How to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen: a loopback address; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The management keys of the first account. One is generated if there is none.
    pub management_keys: Vec<String>,
    /// Additional workspaces of the first account: UUIDs.
    pub workspaces: Vec<String>,
    /// The minimum duration of every request with a management key, in real time.
    pub latency: Duration,
    /// The clock.
    pub clock: Clock,
    /// Makes every secret and id predictable and the same in each run.
    pub seed: Option<u64>,
}

/// Why a simulator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The control interface needs no key, so it must not be reachable by others.
    #[error("{0} is not a loopback address; the simulator listens on those only")]
    NotLoopback(SocketAddr),
    /// A management key must look like one, because clients may check that.
    #[error("a management key must begin with sk-or- and hold visible ASCII characters only")]
    NotAManagementKey,
    /// The text is not a workspace id.
    #[error("{0:?} is not a workspace id; those are UUIDs")]
    NotAWorkspace(String),
    /// The system rejected the address.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, #[source] std::io::Error),
}

/// A running simulator. It stops when dropped, at once and with all its connections.
#[derive(Debug)]
pub struct Simulator {
    shared: Arc<Shared>,
    address: SocketAddr,
    management_key: String,
    account: Account,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl Simulator {
    /// Starts a simulator with one account, on tasks of the current tokio runtime.
    ///
    /// # Errors
    /// If an option is not acceptable or the address is not available.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        options.check()?;
        let at = |error| StartError::Listen(options.listen, error);
        let listener = TcpListener::bind(options.listen).await.map_err(at)?;
        let address = listener.local_addr().map_err(at)?;

        let (shared, account, management_key) = options.set_up();
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(server::serve(listener, app(Arc::clone(&shared)), stopped));
        Ok(Self {
            shared,
            address,
            management_key,
            account,
            stop,
            server,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The API's URL for a client, ending in `/api/v1`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}{BASE_PATH}", self.address)
    }

    /// The URL of the control interface, ending in `/simulator`.
    #[must_use]
    pub fn control_url(&self) -> String {
        format!("http://{}{CONTROL_PATH}", self.address)
    }

    /// The first management key of the first account.
    #[must_use]
    pub fn management_key(&self) -> &str {
        &self.management_key
    }

    /// The first account.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Adds an account with its own workspace and no management key.
    #[must_use]
    pub fn add_account(&self) -> Account {
        Account::new(Arc::clone(&self.shared), self.shared.add_account())
    }

    /// The clock for all expiries and limits.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// The fault script.
    #[must_use]
    pub fn faults(&self) -> &FaultScript {
        &self.shared.faults
    }

    /// The cost of calls, when it becomes known, and the calls in flight.
    #[must_use]
    pub fn billing(&self) -> &Billing {
        &self.shared.billing
    }

    /// The request log.
    #[must_use]
    pub fn requests(&self) -> &RequestLog {
        &self.shared.requests
    }

    /// Changes [`Options::latency`] for requests that arrive from now on.
    pub fn set_latency(&self, latency: Duration) {
        self.shared.set_latency(latency);
    }

    /// Stops, and returns when the address is free and all connections are closed.
    pub async fn shutdown(self) {
        // The receiver is gone only if the server has ended already.
        let _ = self.stop.send(());
        let _ = self.server.await;
    }
}

impl Options {
    /// The simulator's state with one account, and the first of its management keys.
    pub(crate) fn set_up(self) -> (Arc<Shared>, Account, String) {
        let randomness = Randomness::new(self.seed);
        let shared = Arc::new(Shared::new(self.clock, randomness, self.latency));
        let account = Account::new(Arc::clone(&shared), shared.add_account());
        for id in &self.workspaces {
            account.adopt_workspace(id);
        }
        for key in &self.management_keys {
            account.adopt_management_key(key);
        }
        let first = self.management_keys.into_iter().next();
        let management_key = first.unwrap_or_else(|| account.add_management_key());
        (shared, account, management_key)
    }

    pub(crate) fn check(&self) -> Result<(), StartError> {
        if !self.listen.ip().is_loopback() {
            return Err(StartError::NotLoopback(self.listen));
        }
        if let Some(id) = self.workspaces.iter().find(|id| !is_uuid(id)) {
            return Err(StartError::NotAWorkspace(id.clone()));
        }
        if self
            .management_keys
            .iter()
            .all(|key| is_management_key(key))
        {
            Ok(())
        } else {
            Err(StartError::NotAManagementKey)
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            management_keys: Vec::new(),
            workspaces: Vec::new(),
            latency: Duration::ZERO,
            clock: Clock::system(),
            seed: None,
        }
    }
}

/// Whether clients would accept this as a management key.
pub(crate) fn is_management_key(text: &str) -> bool {
    let rest = text.strip_prefix("sk-or-");
    rest.is_some_and(|rest| !rest.is_empty()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// All routes of the simulator.
pub(crate) fn app(shared: Arc<Shared>) -> Router {
    // The layer covers the fallback too: requests to unknown paths are logged like any other.
    let openrouter = Router::new()
        .nest(BASE_PATH, api::routes())
        .fallback(api::error::no_such_path)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&shared),
            pipeline::handle,
        ));
    Router::new()
        .nest(CONTROL_PATH, control::routes())
        .merge(openrouter)
        .with_state(shared)
}

const CONTROL_PATH: &str = "/simulator";
