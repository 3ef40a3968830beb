//! The names of roles, connections, runs and places at OpenRouter, and the mark in a key's name.

mod address;
mod connection;
mod nonce;
mod place;
mod role;
mod run;

pub use address::{Address, AddressId};
pub use connection::{ConnectionName, PREFIX as CONNECTIONS};
pub use nonce::{Life, Nonce, Origin, Series};
pub use place::Place;
pub use role::{PREFIX as ROLES, RoleName};
pub use run::{PREFIX as RUNS, RunId};
