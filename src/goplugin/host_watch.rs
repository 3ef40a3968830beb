//! Detects that the host is gone without notice.
//!
//! A killed host notifies nobody, and go-plugin's Go plugins then live on as orphans. Two signs are
//! watched: the host has closed its connections and does not reconnect, or this process has a new
//! parent. `serve` ends the plugin on the first of them.

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

    /// Records that the host opened a connection. It counts until the returned value is dropped.
    ///
    /// Only for connections that are proved to be the host's. Otherwise any client could keep the
    /// process alive.
    pub(super) fn connected(&self) -> Presence {
        self.open.send_modify(|open| *open += 1);
        Presence {
            open: self.open.clone(),
        }
    }

    /// Waits until the last of the host's connections is closed and no new one follows within
    /// [`GRACE`].
    pub(super) async fn disconnected(&self) {
        let mut open = self.open.subscribe();
        // An error means that no sender is left. That cannot happen while `self` is borrowed, and would
        // also mean that there is no connection.
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

/// Waits until `parent` differs from its value when this was called. The value is taken at the call,
/// not at the first poll: a host may die while its plugin starts.
///
/// The kernel's signal for this, `PR_SET_PDEATHSIG`, follows the thread that forked, not the process.
/// The threads of a Go host come and go.
pub(super) fn orphaned<P: PartialEq>(parent: impl Fn() -> P) -> impl Future<Output = ()> {
    let first = parent();
    async move {
        let mut ticks = interval(PARENT_POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while parent() == first {
            ticks.tick().await;
        }
    }
}

/// How long a host may take to reconnect. gRPC for Go retries after about a second.
const GRACE: Duration = Duration::from_secs(3);

const PARENT_POLL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;

    use tokio::time::{Instant, sleep};

    use super::*;

    /// After how long `watch` considers the host gone; `None` if not within a minute.
    async fn gone_after(watch: &HostWatch) -> Option<Duration> {
        let start = Instant::now();
        let gone = timeout(Duration::from_secs(60), watch.disconnected()).await;
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
    async fn an_orphan_notices_within_a_second_or_two() {
        let parent = Cell::new(4711);
        let orphaned = orphaned(|| parent.get());
        let die = async {
            sleep(Duration::from_secs(30)).await;
            parent.set(1);
            Instant::now()
        };
        let ((), death) = tokio::join!(orphaned, die);
        assert!(death.elapsed() <= Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn an_orphan_notices_that_its_parent_died_before_anybody_watched() {
        let parent = Cell::new(4711);
        let orphaned = orphaned(|| parent.get());
        parent.set(1);
        assert!(timeout(Duration::from_secs(2), orphaned).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_whose_parent_lives_is_no_orphan() {
        assert!(
            timeout(Duration::from_secs(600), orphaned(|| 4711))
                .await
                .is_err()
        );
    }
}
