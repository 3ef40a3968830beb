//! A Kubernetes API server for real, with etcd, and the manifests of `samples/kubernetes` as they are.
//!
//! `scripts/test operators` builds these programs; where they are not built, the tests say so and pass.

mod api;
mod kubernetes;
mod manifests;
mod objects;
mod programs;
