//! What the readers of a rotating role are served from: as much of the role as they need, worked out once
//! for all of them.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use crate::engine::cache::Cacheable;
use crate::engine::clock::seconds_until;
use crate::engine::role::rotating::{Misfit, RotatingRole};
use crate::openrouter::KeyHash;

/// A role's current key, for its readers. A part of the role that cannot be stored again.
pub struct SharedKey {
    /// The key itself.
    pub secret: SecretString,
    /// By what OpenRouter knows it.
    pub hash: KeyHash,
    /// Its name at OpenRouter.
    pub name: String,
    /// Which of the role's keys it is.
    pub version: u64,
    /// When it became current.
    pub since: Timestamp,
    /// When it stops working at OpenRouter.
    pub expires_at: Option<Timestamp>,
    /// The role's lease, in seconds.
    pub ttl: u64,
    /// From one rotation to the next, in seconds, for clients that want a number whatever the schedule
    /// is: for cron, the time from this key's rotation to the next.
    pub period: u64,
    /// Why it is not handed out.
    pub withheld: Option<Withheld>,
    /// What replaces it once it does not work any more.
    pub successor: Successor,
}

/// Why a key is not handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// The role's deletion has begun.
    Deletion,
    /// OpenRouter did not know it any more then.
    Gone(Timestamp),
    /// Somebody had disabled it at OpenRouter then: they pulled the plug.
    Disabled(Timestamp),
    /// It was found then to have been replaced before, and held since.
    Held(Timestamp),
    /// A teardown of the mount revokes it, since then.
    TornDown(Timestamp),
    /// It is not held to the role's guardrail yet, for this reason.
    Unguarded(Cow<'static, str>),
}

/// Where the key after a key that does not work any more comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Successor {
    /// A person rotates.
    Manual,
    /// The engine rotates.
    Due,
    /// The engine rotates again: the last time it failed, for this reason.
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
        let unfit = role.unfit.and_then(|unfit| match unfit.reason {
            Misfit::Gone => Some(Withheld::Gone(unfit.since)),
            Misfit::Disabled => Some(Withheld::Disabled(unfit.since)),
            Misfit::Held => Some(Withheld::Held(unfit.since)),
            Misfit::TornDown => Some(Withheld::TornDown(unfit.since)),
            Misfit::Outdated => None,
        });
        let withheld = match (role.deletion, unfit) {
            (Some(_), _) => Some(Withheld::Deletion),
            (None, Some(unfit)) => Some(unfit),
            (None, None) if guarded => None,
            (None, None) => Some(Withheld::Unguarded(match role.guardrail_failure {
                Some(failure) => Cow::Owned(failure.message),
                None => Cow::Borrowed("this is under way"),
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
    /// By a node that is not told when another one changes the role: whatever that one does short of an
    /// emergency or a deletion, it leaves the key a ninth of `ttl` more than `ttl` from then on (see
    /// `RotationPolicy::shortest_grace`). Half of that may have passed when the key is handed out. The
    /// other half is for what it was meant for: answers that take their time, and clocks that differ.
    fn lifetime(&self) -> Duration {
        Duration::from_secs(self.ttl) / 18
    }

    fn weight(&self) -> usize {
        size_of::<Self>()
            + self.secret.expose_secret().len()
            + self.hash.as_str().len()
            + self.name.len()
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
