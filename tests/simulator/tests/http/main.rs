//! Every documented behaviour, tested over HTTP as a client would use it.
//!
//! One program, so that it is linked once; one module per subject. `BEHAVIOR.md` maps behaviours to
//! tests.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "in a test a failed step is a failed test"
)]

mod account;
mod assignments;
mod authentication;
mod binary;
mod client;
mod control;
mod creating;
mod custody;
mod faults;
mod guardrails;
mod limits;
mod listing;
mod log;
mod sdks;
mod spending;
mod updating;
mod workspaces;
