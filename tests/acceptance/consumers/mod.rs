//! The clients that hand a key to an application, each of them run for real: Vault Agent and Proxy, the
//! command line, `curl`, the SDKs; and what the Kubernetes operators read from a reply.
//!
//! What is run are the files of `samples/`, with the mount's path put in.

mod agent;
mod application;
mod kubernetes;
mod leased;
mod proxy;
mod scripts;
mod sdks;
mod supervisor;
