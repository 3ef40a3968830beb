//! What things are called: roles, connections, places at OpenRouter, and the mark in a key's name.

mod connection;
mod nonce;
mod place;
mod role;

pub use connection::{ConnectionName, PREFIX as CONNECTIONS};
pub use nonce::{Nonce, Origin};
pub use place::Place;
pub use role::{PREFIX as ROLES, RoleName};
