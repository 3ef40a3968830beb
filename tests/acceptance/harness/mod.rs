//! The harness: a real server with the built plugin, a simulated OpenRouter, and clients for both.
//!
//! A test starts with [`Mount`] (the engine, mounted for this test alone) or, if it kills, seals or restarts
//! things, with [`Vault`], [`RaftVault`] or [`Cluster`]. Nothing here uses the plugin's code: the server is
//! called over HTTP or through its CLI.

mod available;
mod cli;
mod client;
mod cluster;
mod directory;
#[expect(dead_code, reason = "the tests of the client use all of it")]
#[path = "../../support/egress.rs"]
mod egress;
mod listen;
mod mount;
mod node;
mod openrouter;
mod process;
pub(crate) mod program;
mod promise;
mod raft;
mod relays;
mod sidecar;
mod vault;
mod wait;

pub(crate) use available::{runs, say, skipped};
pub(crate) use cli::{output_in, output_of};
pub(crate) use client::{Client, Reply};
pub(crate) use cluster::Cluster;
pub(crate) use directory::Directory;
pub(crate) use egress::EgressProxy;
pub(crate) use listen::{ATTEMPTS, START_TIME, free_address};
pub(crate) use mount::Mount;
pub(crate) use node::Node;
pub(crate) use openrouter::OpenRouter;
pub(crate) use process::{PluginProcess, ServerProcess};
pub(crate) use program::{PLUGIN_NAME, VERSION, catalog_entry};
pub(crate) use promise::Promise;
pub(crate) use raft::RaftVault;
pub(crate) use relays::Relays;
pub(crate) use sidecar::{Sidecar, reader, samples};
pub(crate) use vault::Vault;
pub(crate) use wait::{SOON, eventually};
