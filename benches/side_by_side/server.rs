//! A Vault server on which everything measured is mounted.

use std::net::SocketAddr;

use futures::{StreamExt as _, stream};
use serde_json::json;

use super::contender::Contender;
use super::load::HttpReader;
use super::process;
use crate::harness::{Client, PluginProcess, Vault};

/// A running dev server.
pub(crate) struct Server {
    vault: Vault,
}

impl Server {
    /// A server with these plugins mounted and set up, each under its own name.
    pub(crate) async fn with(contenders: impl IntoIterator<Item = &Contender>) -> Self {
        let vault = Vault::dev().await;
        let client = vault.client();
        for contender in contenders {
            let plugin = catalog_name(contender);
            vault.install(&contender.binary, &plugin).await;
            let mount = json!({"type": plugin, "options": contender.setup.options});
            let path = format!("sys/mounts/{}", contender.name);
            client.write(&path, mount).await.ok();
            for write in &contender.setup.writes {
                let path = format!("{}/{}", contender.name, write.path);
                client.write(&path, write.data.clone()).await.ok();
            }
        }
        Self { vault }
    }

    /// Sets this plugin up with so many copies of what is read.
    pub(crate) async fn copy(&self, contender: &Contender, copies: usize) {
        let client = &self.vault.client();
        let writes = contender.setup.writes.iter();
        for write in writes.filter(|write| write.path.ends_with(COPIED)) {
            stream::iter(0..copies)
                .for_each_concurrent(16, async |number| {
                    let path = copy_of(&write.path, number);
                    let path = format!("{}/{path}", contender.name);
                    client.write(&path, write.data.clone()).await.ok();
                })
                .await;
        }
    }

    /// So many readers of all copies in turn, each of another one at any time.
    pub(crate) async fn readers_of_copies(
        &self,
        (contender, path): (&Contender, &str),
        copies: usize,
        count: usize,
    ) -> Vec<HttpReader> {
        assert!(path.ends_with(COPIED), "{path} has copies");
        readers_of(&self.vault.client(), count, |number| {
            let first = number * copies / count;
            let numbers = (first..copies).chain(0..first);
            numbers
                .map(|number| format!("{}/{}", contender.name, copy_of(path, number)))
                .collect()
        })
        .await
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        self.vault.client()
    }

    /// This many readers of a path of this plugin's mount.
    pub(crate) async fn readers(
        &self,
        contender: &Contender,
        path: &str,
        count: usize,
    ) -> Vec<HttpReader> {
        let path = format!("{}/{path}", contender.name);
        readers(&self.vault.client(), &path, count).await
    }

    /// The server's own process.
    pub(crate) fn id(&self) -> u32 {
        self.vault.id()
    }

    /// The process of this plugin.
    pub(crate) fn plugin(&self, contender: &Contender) -> u32 {
        let plugins = self.vault.plugin_processes();
        let name = catalog_name(contender);
        let of_it = |process: &u32| process::executable(*process).ends_with(&name);
        plugins
            .iter()
            .map(PluginProcess::id)
            .find(of_it)
            .unwrap_or_else(|| panic!("no process of {name}"))
    }
}

/// This many readers of a path of this server, each with its own connection.
pub(crate) async fn readers(client: &Client, path: &str, count: usize) -> Vec<HttpReader> {
    let path = [path.to_owned()];
    readers_of(client, count, |_| path.to_vec()).await
}

/// So many readers of this server, each of several paths in turn.
pub(crate) async fn readers_of(
    client: &Client,
    count: usize,
    paths: impl Fn(usize) -> Vec<String>,
) -> Vec<HttpReader> {
    let address = client.address().trim_start_matches("http://");
    let address: SocketAddr = address.parse().expect("an address");
    let mut readers = Vec::with_capacity(count);
    for number in 0..count {
        readers.push(HttpReader::new(address, client.token(), &paths(number)).await);
    }
    readers
}

/// The server registers our plugin itself, under its file name; a second entry would be another
/// process.
fn catalog_name(contender: &Contender) -> String {
    format!("measured-{}", contender.name)
}

fn copy_of(path: &str, number: usize) -> String {
    format!("{path}-{number}")
}

/// The name of what is read, in the setup of every plugin.
const COPIED: &str = "app";
