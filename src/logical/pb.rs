//! The messages and services generated from `proto/vault/`, and nothing else.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]

/// Package `pb`: the backend protocol.
pub mod backend {
    tonic::include_proto!("pb");
}

/// Package `logical`: the plugin's version, and small messages of the server's.
pub mod logical {
    tonic::include_proto!("logical");
}

/// Package `pluginutil.multiplexing`.
pub mod multiplexing {
    tonic::include_proto!("pluginutil.multiplexing");
}
