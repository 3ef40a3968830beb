//! The limit: an engine that is built into the server, and answers a read from storage within the
//! server's process. What a plugin is behind it is what lies between two processes.

use serde_json::json;

use super::contender::Contenders;
use super::figure::{Figure, Goal};
use super::load::flat_out;
use super::options::Options;
use super::reads::{CLIENTS, number_of};
use super::server::{Server, readers};
use crate::harness::Client;

/// Measures unleased reads, with 1 client and with 32.
pub(crate) async fn measure(contenders: &Contenders, options: &Options) -> Vec<Figure> {
    let ours = &contenders.ours;
    let path = ours
        .setup
        .unleased
        .as_deref()
        .expect("ours has such a read");
    let server = Server::with([ours]).await;
    let client = server.client();
    mount(&client).await;
    client.write(&format!("{MOUNT}/app"), entry()).await.ok();
    let mut figures = Vec::new();
    for (clients, goal) in CLIENTS.into_iter().zip(GOALS) {
        let mut ours = server.readers(ours, path, clients).await;
        let mut theirs = readers(&client, &format!("{MOUNT}/app"), clients).await;
        let mut rates = Vec::new();
        for _ in 0..options.rounds() {
            let a = flat_out(&mut ours, options.round_time()).await;
            let b = flat_out(&mut theirs, options.round_time()).await;
            rates.push((a.rate(), b.rate()));
        }
        let name = format!("unleased read, {}: in a second", number_of(clients));
        figures.push(Figure::ratio(name, "", BUILT_IN, &rates, goal));
    }
    figures
}

/// Mounts the built-in engine: kv version 1, whose reads are one storage read each.
pub(crate) async fn mount(client: &Client) {
    let kv = json!({"type": "kv", "options": {"version": "1"}});
    client.write(&format!("sys/mounts/{MOUNT}"), kv).await.ok();
}

/// As much as a role hands out.
pub(crate) fn entry() -> serde_json::Value {
    json!({
        "api_key": "sk-or-v1-000000000000000000000000000000000000000000000000000000000000000",
        "key_name": "app",
    })
}

/// Where it is mounted.
pub(crate) const MOUNT: &str = "built-in";
/// As the table calls it.
pub(crate) const BUILT_IN: &str = "built-in";
const GOALS: [Goal; 2] = [Goal::AtLeast(0.5), Goal::AtLeast(0.72)];
