//! The books: what is open now, kept in memory, and in the write-ahead log where it must outlive the
//! process.
//!
//! - [`intents`]: keys that were ordered and not confirmed yet.
//! - [`looks`]: what the looks for those that are adrift have shown.
//! - [`leases`]: the leases on keys of their own.
//! - [`register`]: what is known of all roles and their keys.
//! - [`room`]: what the budgets of dynamic roles have room for.
//! - [`roster`]: every role as it was seen last.
//! - [`passes`]: comparisons with OpenRouter that are not over.
//! - [`board`]: what the comparisons with OpenRouter have found.
//! - [`runs`]: jobs that take longer than a request may; [`run`] is what is stored of one.
//! - [`unsure`]: entries that may differ from what is read of them.
//!
//! Nothing can be asked of intents and leases before those of earlier processes are among them: they
//! are reached through [`Books::open`] alone.

mod board;
mod intents;
mod leases;
mod looks;
mod passes;
mod register;
mod room;
mod roster;
mod run;
mod runs;
mod unsure;

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Mutex;

pub use board::{Board, Copies, Drift, Noted, in_words};
pub use intents::{InFlight, Intent, Intents, Purpose};
pub use leases::{LeaseGuard, LeasedKey, Leases, Record, Requester};
pub use looks::{Finding, Listing, OUTLIVED};
pub use passes::{BegunPass, Passes};
pub use register::{Expectations, Expected, Owner, Part, Register};
pub use room::{Reservation, Wanted};
pub use roster::{Condition, MOST_NAMED, Overdue, Roster, Summary};
pub use run::{Named, Outcome, Run, Work};
pub use runs::{Runs, TornDown, while_torn_down};
pub use unsure::Unsure;

use crate::framework::wal;
use crate::logical::{Storage, StorageError};

/// The intents, the leases and the runs of a mount.
#[derive(Default)]
pub struct Books {
    intents: Arc<Intents>,
    leases: Arc<Leases>,
    runs: Runs,
    /// Since when what earlier processes left is among them; `None` while it is not.
    since: Mutex<Option<Timestamp>>,
}

/// The books, complete.
#[derive(Clone)]
pub struct OpenBooks {
    /// Keys that were ordered and not confirmed yet.
    pub intents: Arc<Intents>,
    /// The leases on keys of their own.
    pub leases: Arc<Leases>,
    /// When they were opened: the start of the work, by which keys that somebody may still use
    /// although storage does not know them are judged.
    pub since: Timestamp,
}

impl Books {
    /// Opens the books: the first time, reads what earlier processes left. Only for a node that may
    /// write: the others would not hear of what becomes of it.
    ///
    /// # Errors
    /// Storage's own. An unreadable entry costs only itself, and is passed to `unreadable`.
    pub async fn open(
        &self,
        storage: &dyn Storage,
        now: impl Fn() -> Timestamp,
        unreadable: impl Fn(StorageError),
    ) -> Result<OpenBooks, StorageError> {
        let mut opened = self.since.lock().await;
        let since = match *opened {
            Some(since) => since,
            None => {
                let logs = [self.intents.log(), self.leases.log()];
                let left_out = wal::load(storage, &logs).await?;
                left_out.into_iter().for_each(&unreadable);
                self.runs.load(storage, &unreadable).await?;
                *opened.insert(now())
            }
        };
        Ok(self.since(since))
    }

    /// The books, if they are open: a node that only serves reads does not know what is in them.
    pub fn if_open(&self) -> Option<OpenBooks> {
        let since = *self.since.try_lock().ok()?;
        Some(self.since(since?))
    }

    /// Closes the books: another node may write in them now. What this process is still seeing
    /// through stays its own.
    pub async fn close(&self) {
        let mut opened = self.since.lock().await;
        self.intents.forget_what_is_adrift();
        self.leases.forget();
        self.runs.forget();
        *opened = None;
    }

    /// The runs, as far as this node knows of them: all, once the books are open.
    pub fn runs(&self) -> &Runs {
        &self.runs
    }

    fn since(&self, since: Timestamp) -> OpenBooks {
        OpenBooks {
            intents: Arc::clone(&self.intents),
            leases: Arc::clone(&self.leases),
            since,
        }
    }
}
