//! go-plugin, plugin side: how a host starts, authenticates, calls and stops this process.
//!
//! Written from the behaviour of go-plugin 1.7 and 1.8, for the gRPC protocol with AutoMTLS over a unix
//! socket. A program calls [`serve()`] with its gRPC services and gets a [`Broker`], which connects to
//! the services that the host offers.
//!
//! | file | contents |
//! |---|---|
//! | `handshake` | environment in, one line on stdout out |
//! | `serve` | the life of the process from handshake to shutdown |
//! | `listener` | the socket and the connections accepted on it |
//! | `door` | admits the host and nobody else |
//! | `tls` | AutoMTLS: one-off certificates, pinned both ways |
//! | `transport` | byte streams and their addresses |
//! | `coalesce` | combines small writes |
//! | `codec` | protobuf in gRPC's frames |
//! | `broker` | connections from the plugin to services of the host |
//! | `control` | go-plugin's own small services: controller and stdio |
//! | `host_watch` | detects that the host is gone without notice |
//! | `hclog` | log lines in the format of go-plugin hosts |
//! | `pb` | the generated protobuf types |
//!
//! Nothing here knows what the plugin does: the caller provides the cookie, protocol version and
//! services.

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
