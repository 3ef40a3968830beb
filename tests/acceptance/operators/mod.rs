//! Kubernetes for real: an API server with etcd, and External Secrets Operator, with the manifests and the policy
//! of `samples/kubernetes` as they are, but for Vault's address and the refresh intervals.
//!
//! `scripts/test operators` builds these programs; where they are not built, the tests say so and pass.

mod api;
mod kubernetes;
mod manifests;
mod objects;
mod outage;
mod programs;
mod rotation;
mod site;
