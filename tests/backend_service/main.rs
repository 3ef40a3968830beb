//! The backend service of the built plugin, called over gRPC as Vault's server calls it.
//!
//! How a server handles the answers is tested with real servers, in `tests/acceptance`. These tests cover
//! what no real server can be made to do: hang up, stand by, refuse, repeat calls, send too much.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod caller_gone;
mod cleanup;
mod crowded;
mod events;
mod help;
mod host_killed;
mod instances;
mod leases;
mod messages;
mod operations;
mod refusals;
mod request_data;
mod setup;
mod standby;

#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use openrouter_simulator::{Options, Simulator};
use serde_json::json;

use self::support::vault_host::{Mount, Vault};

/// OpenRouter, with one account and one management key.
async fn openrouter() -> Simulator {
    Simulator::start(Options::default()).await.unwrap()
}

/// Tells a mount how to reach OpenRouter, and to wait as long as possible for its answers.
async fn connect(mount: &Mount, openrouter: &Simulator) {
    let connection = json!({
        "management_key": openrouter.management_key(),
        "api_url": openrouter.base_url(),
        "request_timeout": 60,
    });
    mount.request("create", "config", connection).await.done();
}

/// A plugin with one mount that has a connection and the role `app`.
async fn with_role(openrouter: &Simulator) -> (Vault, Mount) {
    let vault = Vault::start().await;
    let mount = vault.mount().await;
    connect(&mount, openrouter).await;
    let role = json!({ "description": "for the app" });
    mount.request("create", "roles/app", role).await.done();
    (vault, mount)
}

/// Waits until a condition holds that takes some time.
async fn until(what: &str, holds: impl Fn() -> bool) {
    until_within(PATIENCE, what, holds).await;
}

/// The same for a condition that takes very long.
async fn until_within(patience: Duration, what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < patience, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How long anything may take before a test fails. Only a broken plugin comes close. Less than the time limit
/// of the request to OpenRouter that may be held meanwhile, see [`connect`].
const PATIENCE: Duration = Duration::from_secs(50);
