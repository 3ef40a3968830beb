//! go-plugin, plugin side: how a host starts this process, trusts it, talks to it and ends it.
//!
//! Written from go-plugin's behaviour as of its 1.7 and 1.8 releases, for the gRPC protocol with
//! AutoMTLS over a unix socket. A program calls [`serve()`] with its gRPC services and gets a
//! [`Broker`] with which it reaches the services that the host offers back to it.
//!
//! | file | what it is |
//! |---|---|
//! | `handshake` | the environment in, one line on stdout out |
//! | `serve` | the life of the process from handshake to shutdown |
//! | `listener` | the socket and the connections accepted on it |
//! | `door` | who of those that connect is let in |
//! | `tls` | AutoMTLS: one-off certificates, pinned both ways |
//! | `transport` | byte streams, and the addresses that lead to them |
//! | `coalesce` | small writes, sent together |
//! | `codec` | protobuf in gRPC's frames |
//! | `broker` | connections from the plugin to services of the host |
//! | `control` | go-plugin's own small services: controller and stdio |
//! | `host_watch` | notices that the host is gone without a word |
//! | `hclog` | log lines as a go-plugin host reads them |
//! | `pb` | the generated protobuf types |
//!
//! Nothing here knows what the plugin is for: cookie, protocol version and services come from
//! the caller.

mod broker;
mod coalesce;
mod codec;
mod control;
mod door;
mod error;
mod handshake;
mod hclog;
mod host_watch;
#[cfg(any(test, feature = "fuzzing"))]
#[path = "../invariants/goplugin.rs"]
pub(crate) mod invariants;
mod listener;
pub mod pb;
mod serve;
mod tls;
mod transport;

pub use broker::Broker;
pub use coalesce::Coalesced;
pub use codec::Codec;
pub use error::{BrokerError, ServeError};
pub use handshake::{Cookie, Environment, Handshake, Plaintext};
pub use hclog::{Hclog, LogSource};
pub use serve::{Ending, serve};
