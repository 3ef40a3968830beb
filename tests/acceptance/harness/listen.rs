//! The address of a server, and waiting until it listens.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::client::Client;
use super::process::ServerProcess;
use super::wait::eventually;

/// How often a server is restarted because another process took its port first.
pub(crate) const ATTEMPTS: u32 = 5;

/// A loopback address whose port and the next one, for the server's cluster listener, are free. No other test
/// in this process gets it, so that a restarted server gets its port back. A server cannot be given port 0,
/// because it does not report the chosen port. The port is below those that the system assigns automatically,
/// so that no connection uses it while the server is down.
pub(crate) fn free_address() -> SocketAddr {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    loop {
        // Even, so that no two pairs overlap.
        let port = fastrand::u16(PORTS) & !1;
        // Checked first without binding it: binding a port occupies it for a moment.
        if given.insert(port) && is_free(port) && is_free(port + 1) {
            return (Ipv4Addr::LOCALHOST, port).into();
        }
    }
}

/// Waits until the server answers a read of `path` successfully. `false` if its port was taken before it
/// could listen. Panics if it does not start for another reason.
pub(crate) async fn answers(process: &mut ServerProcess, client: &Client, path: &str) -> bool {
    let state = eventually("the server answers", START_TIME, async || {
        if process.has_ended() {
            return Some(false);
        }
        if !process.listens() {
            return None;
        }
        client
            .try_read(path)
            .await
            .filter(|reply| reply.status() == 200)
            .map(|_| true)
    });
    if state.await {
        return true;
    }
    let log = process.log_tail();
    assert!(
        log.contains("address already in use"),
        "the server did not start"
    );
    false
}

/// Waits until a running server answers a read of `path` successfully.
pub(crate) async fn serves(client: &Client, path: &str) {
    let answered = async || {
        client
            .try_read(path)
            .await
            .filter(|reply| reply.status() == 200)
    };
    eventually("the server serves requests", START_TIME, answered).await;
}

const PORTS: Range<u16> = 20_000..32_000;

/// How long a server may take to start on a busy machine.
pub(crate) const START_TIME: Duration = Duration::from_secs(180);
