//! The Kubernetes operators, as far as they decide when to read a shared key: their own code is not run here.

use std::time::Duration;

use tokio::time::Instant;

use crate::harness::Mount;

/// What an operator does to have a key: it reads when `ttl` is over, and again if that failed.
pub(super) struct Operator<'a> {
    mount: &'a Mount,
    habits: Habits,
    key: Option<String>,
    /// When it reads next.
    due: Instant,
    /// How long it waits after the next read that fails.
    wait: Duration,
    /// How many of its reads have failed.
    pub(super) failures: u32,
}

/// When an operator reads.
#[derive(Clone, Copy)]
pub(super) struct Habits {
    /// How long after `ttl` at the latest.
    late: Duration,
    /// How long it waits between two reads that fail: twice as long each time.
    first: Duration,
    longest: Duration,
}

impl Habits {
    /// With so many times shorter waits after failures.
    pub(super) fn hurried(self, times: u32) -> Self {
        Self {
            first: self.first / times,
            longest: self.longest / times,
            ..self
        }
    }
}

impl<'a> Operator<'a> {
    pub(super) fn new(mount: &'a Mount, habits: Habits) -> Self {
        Self {
            mount,
            habits,
            key: None,
            due: Instant::now(),
            wait: habits.first,
            failures: 0,
        }
    }

    /// The key that it has given its application; reads if it is time to.
    pub(super) async fn key(&mut self) -> Option<String> {
        if Instant::now() >= self.due {
            let path = self.mount.at("static-creds/app");
            let reply = self.mount.client().try_read(&path).await;
            let pause = if let Some(reply) = reply.filter(|reply| reply.status() == 200) {
                self.key = Some(reply.text("api_key"));
                self.wait = self.habits.first;
                Duration::from_secs(reply.integer("ttl").unsigned_abs()) + self.habits.late
            } else {
                self.failures += 1;
                let pause = self.wait;
                self.wait = (self.wait * 2).min(self.habits.longest);
                pause
            };
            self.due = Instant::now() + pause;
        }
        self.key.clone()
    }
}

/// Vault Secrets Operator: after five seconds, then up to a minute. How late it reads was measured with version
/// 1.4.1.
pub(super) const VSO: Habits = Habits {
    late: Duration::from_millis(650),
    first: Duration::from_secs(5),
    longest: Duration::from_mins(1),
};

/// External Secrets Operator: from a second up to seven minutes; the longest wait is not reached here.
pub(super) const ESO: Habits = Habits {
    late: Duration::ZERO,
    first: Duration::from_secs(1),
    longest: Duration::from_mins(7),
};
