//! Support for the tests of the built plugin.

#![expect(dead_code, reason = "every test file uses its own part of this")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

pub(crate) mod host;
pub(crate) mod identity;
pub(crate) mod process;
pub(crate) mod relay;
pub(crate) mod vault_host;
pub(crate) mod vault_mount;
