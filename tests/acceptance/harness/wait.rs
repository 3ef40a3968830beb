//! Waiting for something that happens by itself: looked at again and again until a deadline.
//!
//! A deadline is there for what never happens. It proves nothing about what happens late: on a busy
//! machine everything may.

use std::time::{Duration, Instant};

/// For what should happen within seconds, with room for a very busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Asks until the answer is `Some`, and panics with `what` if it is not before the time is over.
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
