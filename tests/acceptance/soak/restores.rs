//! Snapshots that are restored, and which promises that breaks: none but those that were made since the
//! snapshot was taken, until the engine has caught up with what it was made to forget.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::{ROLES, Soak, role};
use crate::harness::eventually;

/// A snapshot of everything that is stored.
struct Snapshot {
    file: String,
    taken: Instant,
}

/// The snapshot that may be restored next, and what restores have undone so far.
#[derive(Default)]
pub(super) struct Restores {
    saved: Mutex<Option<Snapshot>>,
    undone: Mutex<Vec<Undone>>,
}

/// A span of time whose writes are gone.
struct Undone {
    from: Instant,
    /// `None` while the engine may still hand out what it read from the restored storage.
    to: Option<Instant>,
}

impl Restores {
    /// The file of the snapshot to restore now, whose writes since count as undone; `None` if a snapshot is
    /// to be saved.
    pub(super) fn due(&self, random: &mut Rng) -> Option<String> {
        // A few are replaced by a later one instead.
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let Snapshot { file, taken: from } = saved.take_if(|_| random.u32(0..4) > 0)?;
        self.undone().push(Undone { from, to: None });
        Some(file)
    }

    /// A snapshot was saved. What was written after it was asked for may be in it or not, so its time is
    /// when it was there.
    pub(super) fn saved(&self, file: String) {
        let snapshot = Snapshot {
            file,
            taken: Instant::now(),
        };
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = Some(snapshot);
    }

    /// Whether a promise that was asked for then may be broken by a restore.
    pub(super) fn undid(&self, asked: Instant) -> bool {
        let within = |undone: &Undone| {
            asked + SAVING >= undone.from && undone.to.is_none_or(|to| asked <= to)
        };
        self.undone().iter().any(within)
    }

    fn undone(&self) -> MutexGuard<'_, Vec<Undone>> {
        self.undone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Soak {
    /// Waits until every role has a current key that lives again.
    pub(super) async fn restored(&self) {
        self.counts.restores.add();
        // What was on its way to OpenRouter when the server let go of it has arrived by then.
        tokio::time::sleep(IN_FLIGHT).await;
        for index in 0..ROLES {
            let path = self.mount.at(&format!("roles/{}", role(index)));
            let lives = async || {
                let reply = self.mount.client().try_read(&path).await?;
                let hash = reply.data()["current_key"]["hash"].as_str()?;
                let key = self.mount.openrouter.account().key(hash)?;
                key.deleted_at.is_none().then_some(())
            };
            let what = format!("role {index} has a key again");
            eventually(&what, super::RECOVERY_TIME, lives).await;
        }
        for undone in self.restores.undone().iter_mut() {
            undone.to.get_or_insert_with(Instant::now);
        }
    }
}

/// How long it takes at most to save a snapshot.
const SAVING: Duration = Duration::from_secs(5);

/// Longer than any fault of this soak delays a request.
const IN_FLIGHT: Duration = Duration::from_secs(4);
