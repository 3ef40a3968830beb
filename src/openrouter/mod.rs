//! The part of OpenRouter's API that the engine uses, and the meaning of each failure.
//!
//! For keys: describe the key of a request (`GET /key`), create, read, change and delete a key (`/keys`,
//! `/keys/{hash}`), and list all keys. For restrictions of keys: guardrails and their assignments,
//! workspaces, and the members of an organization.
//!
//! The engine calls them through [`Client`]; every failure is an [`Error`] that says whether the
//! request may have taken effect. Nothing here repeats a request, reads the clock or the environment,
//! or knows about Vault. The caller provides HTTP as a [`Network`].
//!
//! The protocol facts come from OpenRouter's OpenAPI document (`openapi/openapi.yaml` in the repository
//! OpenRouterTeam/docs) and its published SDKs. OpenRouter adds fields and enum values unannounced, so
//! unknown fields are ignored and missing ones get a default.

mod answer;
mod client;
mod error;
mod guardrails;
mod http;
mod identifiers;
#[cfg(any(test, feature = "fuzzing"))]
#[path = "../invariants/openrouter.rs"]
pub(crate) mod invariants;
mod keys;
mod lenient;
mod limits;
mod listing;
mod members;
mod network;
mod quote;
mod reading;
mod report;
mod rows;
mod settings;
mod transport;
mod usage;
mod workspaces;

pub use client::Client;
pub use error::{Bearer, Error, Invalid};
pub use guardrails::Guardrail;
pub use http::{Failure, Http, HttpAnswer, HttpRequest, Network};
pub use identifiers::{GuardrailId, KeyHash, WorkspaceId, WorkspaceRef};
pub use keys::{CreatedKey, CurrentKey, Deletion, Key, NewKey};
pub use limits::{LimitReset, Limits, ReportedLimits, Usd};
pub use listing::{ListedKey, Walk};
pub use network::SystemNetwork;
pub use report::Report;
pub use settings::{ApiUrl, CaBundle, ProxyUrl, Settings};
pub use usage::{Effective, KeyLimit, Usage};
pub use workspaces::Workspace;
