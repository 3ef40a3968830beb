//! Locks by name, for example one per role. Unused names take no memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// A set of named locks.
#[derive(Default)]
pub struct Locks {
    // A plain mutex: it is never held across an await.
    by_name: Mutex<HashMap<String, Weak<AsyncMutex<()>>>>,
}

/// A held lock; dropping it releases the lock.
#[must_use = "the lock is released when this is dropped"]
pub struct Held(#[expect(dead_code, reason = "held for its Drop")] OwnedMutexGuard<()>);

impl Locks {
    /// Waits for the lock, after earlier callers. Meant to be held across awaits: it blocks a second
    /// change of the same object until the first is stored.
    pub async fn lock(&self, name: &str) -> Held {
        Held(self.named(name).lock_owned().await)
    }

    /// The lock, if it is free.
    pub fn try_lock(&self, name: &str) -> Option<Held> {
        self.named(name).try_lock_owned().ok().map(Held)
    }

    fn named(&self, name: &str) -> Arc<AsyncMutex<()>> {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = by_name.get(name).and_then(Weak::upgrade) {
            return lock;
        }
        // Entries of free locks are removed here, before the map would grow.
        if by_name.len() == by_name.capacity() {
            by_name.retain(|_, lock| lock.strong_count() > 0);
        }
        let lock = Arc::new(AsyncMutex::new(()));
        by_name.insert(name.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_held_by_one_at_a_time_and_names_do_not_meet() {
        let locks = Locks::default();
        let held = locks.lock("a").await;
        assert!(locks.try_lock("a").is_none());
        assert!(locks.try_lock("b").is_some());
        drop(held);
        assert!(locks.try_lock("a").is_some());
    }

    #[tokio::test]
    async fn names_that_nobody_holds_are_forgotten() {
        let locks = Locks::default();
        for n in 0..10_000 {
            drop(locks.lock(&n.to_string()).await);
        }
        assert!(locks.by_name.lock().unwrap().len() < 100);
    }
}
