//! Connections: the OpenRouter management keys that the engine works with, as they are stored, as
//! they are written, and as they are used.

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
pub use turns::{Making, Urgency};
