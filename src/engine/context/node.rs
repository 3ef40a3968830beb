//! The last known state of this node, so that reads do not have to ask the server.
//!
//! The life cycle asks the server, and a server that changes the state of a node creates new instances of its
//! engines. If a server did not, a standby that has become active would keep forwarding requests. So reads on
//! a standby trigger a new request now and then, without waiting for it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Whether this node is a standby, as far as is known.
#[derive(Default)]
pub(super) struct NodeState {
    // A plain mutex: it is never held across an await.
    known: Mutex<Option<Known>>,
}

#[derive(Clone, Copy)]
struct Known {
    is_standby: bool,
    /// When the server was last asked, by the machine's uptime.
    asked: Duration,
}

/// The result for a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Knowledge {
    /// Nothing is known; the server must be asked first.
    Nothing,
    /// The node is not a standby.
    NoStandby,
    /// The node is a standby. If `ask` is true, this reader asks the server again.
    Standby { ask: bool },
}

impl NodeState {
    /// Records the server's answer.
    pub(super) fn learn(&self, is_standby: bool, now: Duration) {
        let asked = now;
        *self.known() = Some(Known { is_standby, asked });
    }

    /// Forgets the state.
    pub(super) fn forget(&self) {
        *self.known() = None;
    }

    /// The known state. Only one of many concurrent readers is told to ask.
    pub(super) fn read(&self, now: Duration) -> Knowledge {
        match &mut *self.known() {
            None => Knowledge::Nothing,
            Some(known) if !known.is_standby => Knowledge::NoStandby,
            Some(known) => {
                let ask = now.saturating_sub(known.asked) >= ASKED_AGAIN;
                if ask {
                    known.asked = now;
                }
                Knowledge::Standby { ask }
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long the state of a standby is used before its readers ask the server again.
const ASKED_AGAIN: Duration = Duration::from_secs(1);
