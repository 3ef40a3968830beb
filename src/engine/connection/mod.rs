//! Connections: OpenRouter management keys and how to reach the API with them. How they are stored, written
//! and used.

mod bounds;
mod entry;
pub mod fields;
mod links;
mod metered;
mod turns;

pub use bounds::Bounds;
pub use entry::{Connection, Proof};
pub use links::{InUse, Link, Links, missing};
pub use metered::Heartbeats;
pub use turns::{Making, Turn, Urgency};
