//! Keys that exist but are not listed yet.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::clock::later;
use crate::keys::Key;

/// How long a key exists before `GET /keys` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListDelay {
    /// Until this much time has passed on the simulator's clock.
    For(Duration),
    /// Until this many requests to list keys would have shown it.
    Listings(u32),
}

/// A [`ListDelay`] that has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hiding {
    Until(Timestamp),
    Listings(u32),
}

impl ListDelay {
    pub(crate) fn starting(self, now: Timestamp) -> Hiding {
        match self {
            Self::For(duration) => {
                let duration = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
                Hiding::Until(later(now, duration))
            }
            Self::Listings(count) => Hiding::Listings(count),
        }
    }
}

impl Key {
    /// Whether a list omits the key. For a key that is hidden from a number of lists, each call counts.
    pub(crate) fn stays_hidden(&mut self, now: Timestamp) -> bool {
        match &mut self.hidden {
            None | Some(Hiding::Listings(0)) => false,
            Some(Hiding::Listings(listings)) => {
                *listings -= 1;
                true
            }
            Some(Hiding::Until(instant)) => *instant > now,
        }
    }
}
