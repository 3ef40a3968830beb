//! What things are called: roles, connections, places at OpenRouter, and the mark in a key's name.

mod address;
mod connection;
mod nonce;
mod place;
mod role;

pub use address::{Address, AddressId};
pub use connection::{ConnectionName, PREFIX as CONNECTIONS};
pub use nonce::{Life, Nonce, Origin, Series};
pub use place::Place;
pub use role::{PREFIX as ROLES, RoleName};
