//! The OpenRouter secrets engine for HashiCorp Vault and OpenBao.
//!
//! The house has six floors. Each knows only those below it:
//!
//! | module | what it is | knows nothing of |
//! |---|---|---|
//! | [`engine`] | the secrets engine: connections, roles, credentials, rotation, revocation | gRPC, TLS, protobuf |
//! | [`openrouter`] | the part of OpenRouter's API that is used, and what each failure means | Vault |
//! | [`schedule`] | when something is due: period, time of day, cron with window | everything else |
//! | [`framework`] | what Vault's Go SDK gives an engine: paths, fields, help, OpenAPI, leases, WAL | OpenRouter, gRPC |
//! | [`logical`] | Vault's vocabulary: request, response, storage, system view; the gRPC services | go-plugin's handshake |
//! | [`goplugin`] | go-plugin, plugin side: handshake, AutoMTLS, broker, lifecycle, hclog | Vault |
//!
//! `main.rs` ties them together and is the only place that ends the process.

pub mod engine;
pub mod framework;
pub mod goplugin;
#[cfg(any(test, feature = "fuzzing"))]
pub mod invariants;
pub mod logical;
pub mod openrouter;
pub mod schedule;
