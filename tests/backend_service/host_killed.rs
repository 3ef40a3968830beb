//! A host that is killed: no one notifies the plugin, but it still exits.

use std::env;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::Stdio;

use openrouter_simulator::Fault;
use serde_json::json;
use tokio::net::UnixStream;
use tokio::process::Command;

use crate::support::process::{Lines, lives};
use crate::support::vault_host::{Vault, request};
use crate::{openrouter, until};

/// Runs itself again as the host, so that the host can be killed.
#[tokio::test]
async fn a_plugin_whose_host_is_killed_goes_away_with_its_socket_whatever_it_is_doing() {
    if let Ok(url) = env::var(OPENROUTER) {
        return be_the_host(&url).await;
    }
    let openrouter = openrouter().await;
    openrouter.faults().add(Fault::held().on("POST", "/keys"));
    let files = tempfile::tempdir().unwrap();
    let mut host = Command::new(env::current_exe().unwrap());
    host.args(["--exact", THIS_TEST, "--nocapture"])
        .env(OPENROUTER, openrouter.base_url())
        .env(MANAGEMENT_KEY, openrouter.management_key())
        .env("TMPDIR", files.path())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut host = host.spawn().unwrap();
    let mut output = Lines::of(host.stdout.take().unwrap());
    let (plugin, socket) = loop {
        let line = output.next().await.expect("the host has ended");
        if let Some(words) = line.strip_prefix(ANNOUNCEMENT) {
            let (plugin, socket) = words.split_once(' ').unwrap();
            break (plugin.parse().unwrap(), PathBuf::from(socket));
        }
    };
    until("an order is under way", || {
        openrouter.requests().in_flight() == 1
    })
    .await;
    let _stranger = UnixStream::connect(&socket).await.unwrap();
    assert!(lives(plugin));

    host.kill().await.unwrap();
    until("the plugin is gone", || !lives(plugin)).await;
    assert!(!socket.exists());
    assert_eq!(openrouter.requests().in_flight(), 1, "it was not finished");
}

/// Mounts the plugin, orders a key that does not arrive, and lives until it is killed.
async fn be_the_host(openrouter: &str) {
    let vault = Vault::start().await;
    let mount = vault.mount().await;
    let connection = json!({
        "management_key": env::var(MANAGEMENT_KEY).unwrap(),
        "api_url": openrouter,
        "request_timeout": 60,
    });
    mount.request("create", "config", connection).await.done();
    let socket = vault.plugin.line.socket.display();
    // On a separate line, whatever the test harness has printed before.
    let plugin = vault.plugin.id();
    let announcement = format!("\n{ANNOUNCEMENT}{plugin} {socket}\n");
    io::stdout().write_all(announcement.as_bytes()).unwrap();
    let order = request("create", "roles/app", "null");
    let answer = mount.caller.handle(order).await;
    panic!("nobody has killed the host: {answer:?}");
}

const THIS_TEST: &str = "host_killed::\
    a_plugin_whose_host_is_killed_goes_away_with_its_socket_whatever_it_is_doing";

/// Where the host finds OpenRouter. Only the host has this variable.
const OPENROUTER: &str = "HOST_KILLED_TEST_OPENROUTER";

const MANAGEMENT_KEY: &str = "HOST_KILLED_TEST_MANAGEMENT_KEY";

/// The beginning of the host's message about its plugin.
const ANNOUNCEMENT: &str = "the plugin is ";
