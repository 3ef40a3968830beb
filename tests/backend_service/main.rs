//! The backend service of the built plugin, called over gRPC as Vault's server calls it.
//!
//! What a server makes of the answers is tested with real ones, in `tests/acceptance`; here is what
//! no real server can be made to do: hang up, stand by, refuse, repeat itself, say too much.

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

/// Tells a mount how to reach OpenRouter, and to wait for its answers as long as it may.
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

/// Waits until something holds that takes its time.
async fn until(what: &str, holds: impl Fn() -> bool) {
    until_within(PATIENCE, what, holds).await;
}

/// The same for what takes very long.
async fn until_within(patience: Duration, what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < patience, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How long anything may take before a test fails. Only a broken plugin comes near it; less than the
/// request to OpenRouter that may have to be held meanwhile, see [`connect`].
const PATIENCE: Duration = Duration::from_secs(50);
