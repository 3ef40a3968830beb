//! Real Kubernetes components: an API server with etcd, and External Secrets Operator, with the manifests and
//! the policy of `samples/kubernetes`. Only Vault's address and the refresh intervals are changed.
//!
//! `scripts/test operators` builds these programs. If they are not built, the tests print one line and pass.

mod api;
mod kubernetes;
mod manifests;
mod objects;
mod outage;
mod programs;
mod rotation;
mod site;
