//! What the server has said last of this node, so that reads need not ask.
//!
//! The life cycle asks, and a server that makes another thing of a node begins with new instances of its
//! engines. Should one not do so, a standby that has become active would go on forwarding to nobody. So
//! readers of a standby have it asked again now and then, and do not wait for the answer.

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
    /// When it was asked last, by the machine's uptime.
    asked: Duration,
}

/// What a reader learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Knowledge {
    /// The server is to be asked first.
    Nothing,
    /// It is no standby.
    NoStandby,
    /// It is one; if `ask` is true this reader is to have the server asked again.
    Standby { ask: bool },
}

impl NodeState {
    /// The server has answered.
    pub(super) fn learn(&self, is_standby: bool, now: Duration) {
        let asked = now;
        *self.known() = Some(Known { is_standby, asked });
    }

    /// Nothing is certain any more.
    pub(super) fn forget(&self) {
        *self.known() = None;
    }

    /// What is known. Of many readers one is to ask.
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

/// How long a standby may be taken for one before its readers have the server asked again.
const ASKED_AGAIN: Duration = Duration::from_secs(1);
