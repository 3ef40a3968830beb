//! The books: the open work of a mount, in memory, and in the write-ahead log if it must survive the process.
//!
//! - [`intents`]: keys that were ordered and are not confirmed yet.
//! - [`searches`]: results of the searches for intents that are adrift.
//! - [`leases`]: the leases of dynamic roles.
//! - [`readings`]: what OpenRouter last reported about the roles' keys.
//! - [`register`]: what is known about all roles and their keys.
//! - [`room`]: the remaining room in the budgets of dynamic roles.
//! - [`roster`]: the last known state of every role.
//! - [`passes`]: comparisons with OpenRouter that are in progress.
//! - [`board`]: the findings of the comparisons with OpenRouter.
//! - [`runs`]: jobs that take longer than a request may; [`run`]: the stored form of a run.
//! - [`unsure`]: entries whose stored content may differ from what is read.
//!
//! Intents and leases can be accessed only through [`Books::open`], which first loads those of earlier
//! processes.

mod board;
mod intents;
mod leases;
mod passes;
mod readings;
mod register;
mod room;
mod roster;
mod run;
mod runs;
mod searches;
mod unsure;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

pub use board::{Board, Copies, Drift, Noted, in_words};
pub use intents::{InFlight, Intent, Intents, Purpose};
pub use leases::{LeaseGuard, LeasedKey, Leases, Record, Requester};
pub use passes::{BegunPass, Passes};
pub use readings::Readings;
pub use register::{Expectations, Expected, Owner, Part, Register};
pub use room::{Reservation, Wanted};
pub use roster::{Condition, MAX_NAMED, Overdue, Roster, Summary};
pub use run::{Named, Outcome, Run, Work};
pub use runs::{Runs, TornDown, while_torn_down};
pub use searches::{Finding, Listing, OUTLIVED};
pub use unsure::Unsure;

use crate::framework::wal;
use crate::logical::{Storage, StorageError};

/// The intents, leases and runs of a mount.
#[derive(Default)]
pub struct Books {
    intents: Arc<Intents>,
    leases: Arc<Leases>,
    runs: Runs,
    /// When the entries of earlier processes were loaded; `None` if they are not loaded yet. A plain mutex: it
    /// is never held across an await.
    since: Mutex<Option<Timestamp>>,
    /// Held while the books are opened or closed.
    turning: tokio::sync::Mutex<()>,
}

/// The books after loading.
#[derive(Clone)]
pub struct OpenBooks {
    /// Keys that were ordered and are not confirmed yet.
    pub intents: Arc<Intents>,
    /// The leases of dynamic roles.
    pub leases: Arc<Leases>,
    /// When they were opened, which is the start of the work. Keys that are unknown to storage but may still
    /// be in use are judged by this time.
    pub since: Timestamp,
}

impl Books {
    /// Opens the books. The first call loads what earlier processes left. Only for a node that may write,
    /// since other nodes are not told about later changes.
    ///
    /// # Errors
    /// Errors from storage. An unreadable entry is skipped, and passed to `unreadable`.
    pub async fn open(
        &self,
        storage: &dyn Storage,
        now: impl Fn() -> Timestamp,
        unreadable: impl Fn(StorageError),
    ) -> Result<OpenBooks, StorageError> {
        if let Some(open) = self.if_open() {
            return Ok(open);
        }
        let _turning = self.turning.lock().await;
        if let Some(open) = self.if_open() {
            return Ok(open);
        }
        let logs = [self.intents.log(), self.leases.log()];
        let left_out = wal::load(storage, &logs).await?;
        left_out.into_iter().for_each(&unreadable);
        self.runs.load(storage, now(), &unreadable).await?;
        let since = now();
        *self.since() = Some(since);
        Ok(self.opened(since))
    }

    /// The books, if they are open. A node that only serves reads does not know their content.
    pub fn if_open(&self) -> Option<OpenBooks> {
        let since = *self.since();
        Some(self.opened(since?))
    }

    /// Closes the books, since another node may write to them now. Orders that are in flight in this process
    /// stay.
    pub async fn close(&self) {
        let _turning = self.turning.lock().await;
        *self.since() = None;
        self.intents.forget_adrift();
        self.leases.forget();
        self.runs.forget();
    }

    /// The runs that this node knows of: all of them, once the books are open.
    pub fn runs(&self) -> &Runs {
        &self.runs
    }

    fn since(&self) -> MutexGuard<'_, Option<Timestamp>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened(&self, since: Timestamp) -> OpenBooks {
        OpenBooks {
            intents: Arc::clone(&self.intents),
            leases: Arc::clone(&self.leases),
            since,
        }
    }
}
