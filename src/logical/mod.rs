//! Vault's vocabulary: requests, responses, leases, storage and the system view, and the gRPC
//! services that carry them.
//!
//! An engine implements [`Backend`] and gives the host a [`Factory`] that creates one instance per
//! mount. The rest connects the two: [`service`] answers the host's calls, [`remote`] calls the host's
//! storage and system view, and [`convert`] translates messages. Nothing here knows how the process was
//! started.

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
pub use response::{Lease, Rendered, Response, Secret};
pub use storage::{Entry, Storage, StorageError};
pub use system::{FixedSystemView, ReplicationState, SystemView, SystemViewError};

/// A JSON object. Vault passes the fields of every request and response in this form.
pub type Data = serde_json::Map<String, serde_json::Value>;

/// The largest gRPC message from or to the host, in bytes. Vault's HTTP API accepts bodies of 32 MiB by
/// default, and its JSON encoder expands a character to six at worst (`<` becomes `\u003c`). go-plugin
/// has almost no limit. But a message's first five bytes announce its length, which is then allocated,
/// and a process that cannot allocate memory dies.
const LARGEST_MESSAGE: usize = 256 * 1024 * 1024;
