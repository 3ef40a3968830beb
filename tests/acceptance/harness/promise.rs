//! What a reader was promised about a key, and whether that was kept.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::client::Reply;
use super::mount::Mount;

/// A key that was handed out, and until when it must work.
pub(crate) struct Promise {
    hash: String,
    until: Timestamp,
}

impl Promise {
    /// The promise in the reply to a read that was sent at `asked`. The lease counts from the answer, and so
    /// ends slightly later.
    pub(crate) fn made_by(reply: &Reply, asked: Timestamp) -> Self {
        Self {
            hash: reply.text("key_hash"),
            until: asked + SignedDuration::from_secs(reply.integer("ttl")),
        }
    }

    /// Waits until its time has passed, and checks that the key worked until then. OpenRouter's own record
    /// shows that exactly; a request with the key would be too late on a busy machine.
    pub(crate) async fn is_kept(&self, mount: &Mount) {
        let left = self.until.duration_since(mount.openrouter.clock().now());
        tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
        let mut keys = mount.openrouter.account().all_keys().into_iter();
        let key = keys.find(|key| key.hash == self.hash);
        let key = key.expect("the key was made");
        for (end, what) in [(key.deleted_at, "deleted"), (key.expires_at, "expired")] {
            assert!(
                end.is_none_or(|end| end >= self.until),
                "{} was {what} at {end:?}, before {}",
                key.hash,
                self.until
            );
        }
        assert!(!key.disabled, "{} was disabled", key.hash);
    }
}
