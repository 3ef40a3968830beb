//! The world in which the tests run. See [`World`].

mod clock;
mod effects;
mod gate;
mod invariants;
mod leases;
mod log;
mod node;
mod snapshots;
mod storage;
mod system;
mod world;

pub(crate) use effects::Harm;
pub(crate) use gate::whole_message;
pub(crate) use invariants::{hash_of, hashes};
pub(crate) use leases::CI;
pub(crate) use log::Log;
pub(crate) use node::{Answer, Node};
pub(crate) use snapshots::Forgotten;
pub(crate) use world::{FORGET, ROLE, ROTATE, World, role};
