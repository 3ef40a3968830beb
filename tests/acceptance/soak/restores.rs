//! Snapshots that are restored, and the promises that this breaks: only those made since the snapshot was
//! taken, until the engine has caught up with what it was made to forget.

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

/// The snapshot that may be restored next, and what earlier restores have undone.
#[derive(Default)]
pub(super) struct Restores {
    saved: Mutex<Option<Snapshot>>,
    undone: Mutex<Vec<Undone>>,
}

/// A period whose writes are gone.
struct Undone {
    from: Instant,
    /// `None` while the engine may still hand out what it read from the restored storage.
    to: Option<Instant>,
}

impl Restores {
    /// The file of the snapshot to restore now. Writes since then count as undone. `None` if a snapshot is to
    /// be saved.
    pub(super) fn due(&self, random: &mut Rng) -> Option<String> {
        // A few are replaced by a later snapshot instead.
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let Snapshot { file, taken: from } = saved.take_if(|_| random.u32(0..4) > 0)?;
        self.undone().push(Undone { from, to: None });
        Some(file)
    }

    /// A snapshot was saved. It may or may not contain what was written after the request, so its time is
    /// when it was complete.
    pub(super) fn saved(&self, file: String) {
        let snapshot = Snapshot {
            file,
            taken: Instant::now(),
        };
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = Some(snapshot);
    }

    /// Whether a restore may break a promise that was requested then.
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
    /// Waits until every role has a current key that works again.
    pub(super) async fn restored(&self) {
        self.counts.restores.add();
        // Requests that were on their way to OpenRouter when the server dropped them have arrived by then.
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
