//! Dynamic roles: a key of its own for every lease. How it is issued and ended is in
//! [`leasing`](crate::engine::leasing).

mod entry;
mod template;

pub use entry::{DynamicRole, FIELDS, LINGER};
pub use template::NameTemplate;
