//! Drops expired values while there are any.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::AbortHandle;

use super::lock;
use super::values::{BETWEEN_SWEEPS, Moment, Values};
use crate::engine::clock::Clock;

/// Starts a task that ends when no values are left.
pub(super) fn begin<T: Send + Sync + 'static>(
    values: &Arc<Mutex<Values<T>>>,
    clock: &Arc<dyn Clock>,
) -> AbortHandle {
    // The task must not keep the values alive that it cleans up.
    let (values, clock) = (Arc::downgrade(values), Arc::clone(clock));
    let sweeping = tokio::spawn(async move {
        let mut next = soon(&*clock, BETWEEN_SWEEPS);
        loop {
            clock.sleep_until(next).await;
            let Some(values) = values.upgrade() else {
                return;
            };
            let Some(left) = lock(&values).sweep(Moment::of(&*clock)) else {
                return;
            };
            next = soon(&*clock, left.max(BETWEEN_SWEEPS));
        }
    });
    sweeping.abort_handle()
}

fn soon(clock: &dyn Clock, wait: Duration) -> Timestamp {
    clock.now().checked_add(wait).unwrap_or(Timestamp::MAX)
}
