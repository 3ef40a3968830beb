//! When the Kubernetes operators read a shared key. The operators are not run here.

use std::time::Duration;

use tokio::time::Instant;

use crate::harness::Mount;

/// How an operator keeps a key: it reads when `ttl` has passed, and again if that fails.
pub(super) struct Operator<'a> {
    mount: &'a Mount,
    habits: Habits,
    key: Option<String>,
    /// When it reads next.
    due: Instant,
    /// How long it waits after the next failed read.
    wait: Duration,
    /// The number of failed reads.
    pub(super) failures: u32,
}

/// When an operator reads.
#[derive(Clone, Copy)]
pub(super) struct Habits {
    /// The maximum delay after `ttl`.
    late: Duration,
    /// The wait between two failed reads, which doubles each time.
    first: Duration,
    longest: Duration,
}

impl Habits {
    /// The same with waits after failures that are this many times shorter.
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

    /// The key that the application has. Reads if it is time to.
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

/// Vault Secrets Operator: after five seconds, then up to a minute. Its delay was measured with version
/// 1.4.1.
pub(super) const VSO: Habits = Habits {
    late: Duration::from_millis(650),
    first: Duration::from_secs(5),
    longest: Duration::from_mins(1),
};

/// External Secrets Operator: from one second up to seven minutes. The longest wait is not reached here.
pub(super) const ESO: Habits = Habits {
    late: Duration::ZERO,
    first: Duration::from_secs(1),
    longest: Duration::from_mins(7),
};
