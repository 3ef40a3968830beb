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

/// Says in one line, past the test's own captured output, what was not run and why.
fn skipped(why: &str) {
    use std::io::Write;
    // Not worth a failure if nobody listens.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}
