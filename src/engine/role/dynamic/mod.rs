//! Dynamic roles: each lease has its own key. How leases are issued and ended is in
//! [`leasing`](crate::engine::leasing).

mod entry;
mod template;

pub use entry::{DynamicRole, FIELDS, LINGER};
pub use template::NameTemplate;
