//! Waiting for something to happen: checked repeatedly until a deadline.
//!
//! A deadline detects what never happens. It proves nothing about delays: on a busy machine anything can be
//! late.

use std::time::{Duration, Instant};

/// For events that should happen within seconds, with a large margin for a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Calls `ask` until the result is `Some`. Panics with `what` at the deadline.
pub(crate) async fn eventually<T>(
    what: &str,
    time: Duration,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + time;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {time:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
