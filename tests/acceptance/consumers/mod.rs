//! The clients that hand a key to an application, each of them run for real: Vault Agent and Proxy, the
//! command line, `curl`, the SDKs, the scripts of CI jobs; and the requests that the Kubernetes operators
//! and Terraform make, at the times at which they were seen to make them.
//!
//! What is run are the files of `samples/`, with the mount's path put in.

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
