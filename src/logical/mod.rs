//! Vault's vocabulary: requests, responses, leases, storage and the system view, and the gRPC
//! services that carry them.
//!
//! An engine implements [`Backend`] and hands the host a [`Factory`] that makes one instance for
//! each mount. Everything else here is the bridge: [`service`] answers the host's calls,
//! [`remote`] calls the host's storage and system view, [`convert`] translates messages.
//! Nothing here knows how the process was started.

mod backend;
pub mod convert;
mod error;
mod event;
mod instances;
mod memory;
pub mod pb;
mod remote;
mod request;
mod response;
pub mod service;
mod storage;
mod system;

pub use backend::{Backend, Existence, Factory, Mount, SpecialPaths};
pub use error::Error;
pub use event::{Event, EventSink, NoEvents};
pub use memory::MemoryStorage;
pub use request::{LeasedSecret, Operation, Request, UnknownOperation};
pub use response::{Lease, Response, Secret};
pub use storage::{Entry, Storage, StorageError};
pub use system::{FixedSystemView, ReplicationState, SystemView, SystemViewError};

/// A JSON object, the form in which Vault passes every request's and response's fields.
pub type Data = serde_json::Map<String, serde_json::Value>;

/// The largest gRPC message from or to the host, in bytes. Vault's HTTP API takes bodies of 32 MiB
/// unless its operator allows more, and its JSON encoder makes six characters of one at worst (`<`
/// becomes `\u003c`). go-plugin has next to no limit; but a message's first five bytes announce its
/// length, which is then reserved, and a process that cannot reserve memory dies.
const LARGEST_MESSAGE: usize = 256 * 1024 * 1024;
