//! The part of OpenRouter's API that is used, and what each failure means.
//!
//! Of keys: describe a bearer (`GET /key`), create, read, change and delete one (`/keys`,
//! `/keys/{hash}`), go through all of them. Of what keys are held to: guardrails and their assignments,
//! workspaces, the members of an organization.
//!
//! The engine calls it through [`Client`]; every failure comes back as an [`Error`] that says
//! whether the request may have taken effect. Nothing here repeats a request, reads the clock or
//! the environment, or knows of Vault. HTTP itself comes in as a [`Network`].
//!
//! Source of the protocol facts: OpenRouter's OpenAPI document (`openapi/openapi.yaml` in the
//! repository OpenRouterTeam/docs) and its published SDKs. OpenRouter adds fields and enum
//! values unannounced, so unknown fields are ignored and missing ones get a default.

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
pub use workspaces::Workspace;
