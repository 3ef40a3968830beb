//! The part of a rotating role that its readers need, prepared once for all of them.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use crate::engine::cache::Cacheable;
use crate::engine::clock::seconds_until;
use crate::engine::role::rotating::{MismatchReason, RotatingRole};
use crate::logical::Rendered;
use crate::openrouter::KeyHash;

/// A role's current key for its readers. A part of the role that cannot be stored.
pub struct SharedKey {
    /// The key itself.
    pub secret: SecretString,
    /// The hash that identifies the key at OpenRouter.
    pub hash: KeyHash,
    /// Its name at OpenRouter.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// When it became current.
    pub since: Timestamp,
    /// When it expires at OpenRouter.
    pub expires_at: Option<Timestamp>,
    /// The duration of a lease, in seconds.
    pub ttl: u64,
    /// The time between two rotations, in seconds, for clients that need a number with any schedule. With
    /// cron, it is the time from this key's rotation to the next.
    pub period: u64,
    /// Why it is not handed out.
    pub withheld: Option<Withheld>,
    /// How it is replaced when it no longer works.
    pub successor: Successor,
    /// The parts of an answer that all readers share.
    pub texts: Texts,
}

/// The parts of an answer that are the same for every reader, each rendered for the first one that needs it.
#[derive(Default)]
pub struct Texts {
    /// The fields, if the key works for the whole [`ttl`](SharedKey::ttl).
    pub fields: OnceLock<Rendered>,
    /// What the server stores in a lease.
    pub lease: OnceLock<Rendered>,
}

/// Why a key is not handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// The role's deletion has begun.
    Deletion,
    /// OpenRouter no longer knew it at this time.
    Gone(Timestamp),
    /// It was found at this time to have been disabled outside the engine.
    Disabled(Timestamp),
    /// It was found at this time to have been replaced and held before storage was restored.
    Held(Timestamp),
    /// It is being revoked by a teardown of the mount, which began at this time.
    TornDown(Timestamp),
    /// It does not have the role's guardrail yet, for this reason.
    Unguarded(Cow<'static, str>),
}

/// How a key that no longer works is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Successor {
    /// By a person.
    Manual,
    /// By the engine.
    Due,
    /// By the engine, whose last attempt failed for this reason.
    Failed(String),
}

impl SharedKey {
    /// The key of this role.
    pub fn of(role: RotatingRole) -> Self {
        let period = period(&role);
        let guarded = role.is_guarded();
        let successor = match role.rotation_failure {
            _ if !role.definition.rotation.automated => Successor::Manual,
            Some(failure) => Successor::Failed(failure.message),
            None => Successor::Due,
        };
        let mismatch = role.mismatch.and_then(|mismatch| match mismatch.reason {
            MismatchReason::Gone => Some(Withheld::Gone(mismatch.since)),
            MismatchReason::Disabled => Some(Withheld::Disabled(mismatch.since)),
            MismatchReason::Held => Some(Withheld::Held(mismatch.since)),
            MismatchReason::TornDown => Some(Withheld::TornDown(mismatch.since)),
            MismatchReason::Outdated => None,
        });
        let withheld = match (role.deletion, mismatch) {
            (Some(_), _) => Some(Withheld::Deletion),
            (None, Some(mismatch)) => Some(mismatch),
            (None, None) if guarded => None,
            (None, None) => Some(Withheld::Unguarded(match role.guardrail_failure {
                Some(failure) => Cow::Owned(failure.message),
                None => Cow::Borrowed("the change is in progress"),
            })),
        };
        Self {
            secret: role.current.secret,
            hash: role.current.hash,
            name: role.current.name,
            version: role.current.version,
            since: role.current.since,
            expires_at: role.current.expires_at,
            ttl: role.definition.rotation.ttl,
            period,
            withheld,
            successor,
            texts: Texts::default(),
        }
    }
}

impl SharedKey {
    /// Whether it has not expired.
    pub fn works(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

impl Cacheable for SharedKey {
    /// For a node that is not told when another node changes the role. Whatever the other node does, except
    /// for an emergency or a deletion, the key stays valid from then on for `ttl` plus a ninth of it (see
    /// `RotationPolicy::shortest_grace`). Half of that ninth may have passed when the key is handed out. The
    /// other half is for slow answers and for clocks that differ.
    fn lifetime(&self) -> Duration {
        Duration::from_secs(self.ttl) / 18
    }

    /// Includes the texts, which come later and contain the key a second time.
    fn weight(&self) -> usize {
        let key = self.secret.expose_secret().len() + self.hash.as_str().len() + self.name.len();
        size_of::<Self>()
            + 2 * key
            + TEXTS
            + match &self.successor {
                Successor::Failed(reason) => reason.len(),
                Successor::Manual | Successor::Due => 0,
            }
    }
}

fn period(role: &RotatingRole) -> u64 {
    let schedule = &role.definition.rotation.schedule;
    if let Some(period) = schedule.period() {
        return period.as_duration().as_secs();
    }
    let since = role.current.anchor;
    let next = schedule.next_after(since);
    next.map_or(0, |next| seconds_until(since, next)).max(1)
}

/// Roughly what the texts weigh beside the key: the names of the fields, the other values, and the lease.
const TEXTS: usize = 512;
