//! Notices that the host is gone without having said so.
//!
//! A host that is killed tells nobody, and go-plugin's Go plugins then live on as orphans. Two
//! signs are watched here: the host has closed its connections and does not come back, or this
//! process has been given another parent. `serve` ends the plugin on the first of them.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Counts the host's open connections.
#[derive(Debug, Clone)]
pub(super) struct HostWatch {
    open: watch::Sender<usize>,
}

impl HostWatch {
    pub(super) fn new() -> Self {
        Self {
            open: watch::Sender::new(0),
        }
    }

    /// Notes that the host has opened a connection; it counts until the answer is dropped.
    ///
    /// Only for connections that have proved to be the host's, or a stranger could keep the
    /// process alive.
    pub(super) fn connected(&self) -> Presence {
        self.open.send_modify(|open| *open += 1);
        Presence {
            open: self.open.clone(),
        }
    }

    /// Waits until the host is gone. `parent` names the parent of this process at any moment.
    pub(super) async fn gone<P: PartialEq>(&self, parent: impl Fn() -> P) {
        tokio::select! {
            () = self.disconnected() => (),
            () = orphaned(parent) => (),
        }
    }

    /// Waits until there was a connection, there is none, and no new one comes for [`GRACE`].
    async fn disconnected(&self) {
        let mut open = self.open.subscribe();
        // The errors say that no sender is left, which cannot be while `self` is borrowed; if it
        // were so there would be no connection either.
        while open.wait_for(|open| *open > 0).await.is_ok() {
            let _ = open.wait_for(|open| *open == 0).await;
            if timeout(GRACE, open.wait_for(|open| *open > 0))
                .await
                .is_err()
            {
                return;
            }
        }
    }
}

/// An open connection of the host.
#[derive(Debug)]
pub(super) struct Presence {
    open: watch::Sender<usize>,
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.open.send_modify(|open| *open -= 1);
    }
}

/// Waits until the parent is another one than at the start.
///
/// The kernel's own signal for this, `PR_SET_PDEATHSIG`, follows the thread that forked and not
/// the process; a Go host's threads come and go.
async fn orphaned<P: PartialEq>(parent: impl Fn() -> P) {
    let first = parent();
    let mut ticks = interval(PARENT_POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while parent() == first {
        ticks.tick().await;
    }
}

/// How long a host may take to reconnect. gRPC for Go tries again after about a second.
const GRACE: Duration = Duration::from_secs(3);

const PARENT_POLL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;

    use tokio::time::{Instant, sleep};

    use super::*;

    /// Whether `watch` holds the host for gone within a minute, and after how long.
    async fn gone_after(watch: &HostWatch) -> Option<Duration> {
        let start = Instant::now();
        let gone = timeout(Duration::from_secs(60), watch.gone(|| 1)).await;
        gone.is_ok().then(|| start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_has_not_come_yet_is_not_gone() {
        assert_eq!(gone_after(&HostWatch::new()).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connected_host_is_not_gone() {
        let watch = HostWatch::new();
        let _connection = watch.connected();
        assert_eq!(gone_after(&watch).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_is_gone_some_seconds_after_its_last_connection() {
        let watch = HostWatch::new();
        let (first, second) = (watch.connected(), watch.connected());
        drop(first);
        let close = async {
            sleep(Duration::from_secs(10)).await;
            drop(second);
            pending::<()>().await;
        };
        let gone = tokio::select! {
            gone = gone_after(&watch) => gone,
            () = close => None,
        };
        assert_eq!(gone, Some(Duration::from_secs(10) + GRACE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_reconnects_in_time_is_not_gone() {
        let watch = HostWatch::new();
        let first = watch.connected();
        let reconnect = async {
            sleep(Duration::from_secs(1)).await;
            drop(first);
            sleep(Duration::from_secs(1)).await;
            let _second = watch.connected();
            pending::<()>().await;
        };
        let gone = tokio::select! {
            gone = gone_after(&watch) => gone,
            () = reconnect => None,
        };
        assert_eq!(gone, None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_orphan_notices_although_its_connection_stays_open() {
        let watch = HostWatch::new();
        let _connection = watch.connected();
        let polls = Cell::new(0);
        let parent = || {
            polls.set(polls.get() + 1);
            if polls.get() < 5 { 4711 } else { 1 }
        };
        assert!(
            timeout(Duration::from_secs(60), watch.gone(parent))
                .await
                .is_ok()
        );
    }
}
