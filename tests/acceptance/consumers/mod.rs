//! The clients that deliver a key to an application. These are run: Vault Agent and Proxy, the command line,
//! `curl`, the SDKs, and the scripts of CI jobs. The requests of the Kubernetes operators and of Terraform
//! are emulated, at the times at which these were observed to make them.
//!
//! The tests run the files of `samples/`, with the mount's path inserted.

mod agent;
pub(crate) mod application;
mod ci;
mod kubernetes;
mod leased;
pub(crate) mod minute;
mod operator;
mod outage;
mod proxy;
mod roles;
mod scripts;
mod sdks;
mod supervisor;
mod terraform;
