//! Where a server listens, and waiting until it does.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::client::Client;
use super::process::ServerProcess;
use super::wait::eventually;

/// How often a server is started anew because somebody else was faster to take its port.
pub(crate) const ATTEMPTS: u32 = 5;

/// A loopback address whose port, and the next one for the server's cluster listener, are free and are
/// given to nobody else in this process, so that a server that is started again finds its own. The
/// server cannot be given port 0: it does not tell which port it has got. The port is below those that
/// the system hands out by itself, so that it is not some connection's while the server is down.
pub(crate) fn free_address() -> SocketAddr {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    loop {
        // Even, so that no two pairs overlap.
        let port = fastrand::u16(PORTS) & !1;
        // Looked up first: to try a port is to take it for a moment.
        if given.insert(port) && is_free(port) && is_free(port + 1) {
            return (Ipv4Addr::LOCALHOST, port).into();
        }
    }
}

/// Waits until the server answers a read of `path` with success. `false` if its port was taken before
/// it could listen; panics if it does not come up for another reason.
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

/// Waits until a server that is up answers a read of `path` with success.
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
