//! An application that uses its key about ten times a second, and never checks whether the key still works:
//! whoever supplies the key is responsible for that.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::harness::Mount;

/// The outcomes of an application's requests.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Requests that OpenRouter answered.
    pub(crate) served: usize,
    /// The key of every refused request, shortened.
    pub(crate) refused: Vec<String>,
    /// When each of those requests was refused.
    pub(crate) refused_at: Vec<Instant>,
    /// The longest time between two successful requests with a refusal between them.
    pub(crate) longest_dead: Duration,
    /// The different keys that it used, in the order of their first use.
    pub(crate) keys: Vec<String>,
}

impl Tally {
    /// Uses the key that `current` returns, until `done` returns true.
    pub(crate) async fn of(
        mount: &Mount,
        mut current: impl AsyncFnMut() -> Option<String>,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Self {
        let mut tally = Self::default();
        let mut ticks = interval(Duration::from_millis(100));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut served_at = Instant::now();
        let deadline = served_at + TOO_LONG;
        while !done(&tally) {
            assert!(Instant::now() < deadline, "not done in {TOO_LONG:?}");
            ticks.tick().await;
            let Some(key) = current().await else { continue };
            if mount.openrouter.accepts(&key).await {
                tally.served += 1;
                let refused = tally.refused_at.last().is_some_and(|at| *at > served_at);
                if refused {
                    tally.longest_dead = tally.longest_dead.max(served_at.elapsed());
                }
                served_at = Instant::now();
            } else {
                tally.refused.push(key.chars().take(16).collect());
                tally.refused_at.push(Instant::now());
            }
            if !tally.keys.contains(&key) {
                tally.keys.push(key);
            }
        }
        tally
    }

    /// Uses the key that `current` returns until the first `dead` keys of the mount's only role are dead at
    /// OpenRouter, the application has used more different keys than that, and has made enough requests.
    pub(crate) async fn until_keys_are_dead(
        mount: &Mount,
        dead: usize,
        current: impl AsyncFnMut() -> Option<String>,
    ) -> Self {
        let died = || {
            let keys = mount.openrouter.account().all_keys();
            keys.iter().filter(|key| key.deleted_at.is_some()).count()
        };
        let done =
            |tally: &Self| died() >= dead && tally.keys.len() > dead && tally.served >= AT_WORK;
        Self::of(mount, current, done).await
    }

    /// Asserts that all of its requests succeeded.
    #[track_caller]
    pub(crate) fn is_flawless(&self) {
        assert_eq!(
            self.refused,
            Vec::<String>::new(),
            "requests with a dead key, besides {} good ones",
            self.served
        );
    }
}

/// Waits until this much time has passed since `since`.
pub(crate) async fn after(since: Instant, time: Duration) {
    sleep_until(since + time).await;
}

/// Longer than any of these tests takes on a busy machine.
const TOO_LONG: Duration = Duration::from_secs(400);

/// This many successful requests are not a coincidence.
pub(super) const AT_WORK: usize = 50;

/// How long a shared key lives here after its rotation. Its last reader was promised a few seconds. The rest
/// is for delays on a busy machine, of the application or of the client that supplies its key.
pub(crate) const LONG_GRACE: u64 = 40;
