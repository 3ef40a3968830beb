//! The only place that deletes or holds keys at OpenRouter. Every caller has to present a [`Warrant`]: the
//! reason why the key may be ended. (`disable-key`, which a person uses, is in
//! [`custody`](crate::engine::custody).)

use super::unclaimed::Unclaimed;
use crate::engine::books::{InFlight, LeaseGuard, TornDown};
use crate::engine::connection::Urgency;
use crate::engine::context::{Engine, Fenced, RoleGuard};
use crate::engine::error::Error;
use crate::engine::names::ConnectionName;
use crate::openrouter::{self, Deletion, KeyHash};

/// The reason why a key may be ended.
pub enum Warrant<'a> {
    /// According to its role's entry it is due: it was superseded, or the role is being deleted. Used by the
    /// task that stored that.
    OfRole(&'a RoleGuard<'a>, Urgency),
    /// Its lease has ended.
    OfLease(&'a LeaseGuard),
    /// It was just created, and not handed out.
    Unused(&'a InFlight),
    /// It was created and rejected before it was handed out, as its intent says.
    Rejected,
    /// Storage does not know it: proved by the role's entry.
    Unknown(&'a Fenced),
    /// Storage does not know it: proved by writing the intent again.
    UnknownLease,
    /// A person ordered it, and the key belongs to nobody in this mount.
    Ordered(&'a Unclaimed),
    /// The mount is being torn down: proved by writing the teardown's entry again.
    TornDown(&'a TornDown),
}

impl Warrant<'_> {
    /// In words, for the log.
    fn reason(&self) -> String {
        match self {
            Self::OfRole(guard, _) => format!("it is due in role {}", guard.name()),
            Self::OfLease(lease) => format!("its lease {} has ended", lease.nonce()),
            Self::Unused(in_flight) => format!("it was never handed out, {}", in_flight.nonce()),
            Self::Rejected => "it was rejected when it was made".to_owned(),
            Self::Unknown(Fenced { role: Some(_) }) => "its role does not have it".to_owned(),
            Self::Unknown(Fenced { role: None }) => "its role does not exist".to_owned(),
            Self::UnknownLease => "it has no lease".to_owned(),
            Self::Ordered(unclaimed) => format!("it was ordered; the key is {}", unclaimed.owner),
            Self::TornDown(TornDown { since }) => format!("its mount is torn down since {since}"),
        }
    }

    /// If OpenRouter has ended the key of a lease, or may have, nobody can renew the lease any more, whether or
    /// not that can be stored.
    fn note_outcome<T>(&self, ended: &Result<T, Error>) {
        if let Self::OfLease(lease) = self
            && !ended.as_ref().is_err_and(Error::is_definite)
        {
            lease.doom();
        }
    }

    /// As a label for counters.
    fn label(&self) -> &'static str {
        match self {
            Self::OfRole(..) => "role",
            Self::OfLease(_) => "lease",
            Self::Unused(_) => "unused",
            Self::Rejected => "rejected",
            Self::Unknown(_) | Self::UnknownLease => "unconfirmed",
            Self::Ordered(_) => "ordered",
            Self::TornDown(_) => "teardown",
        }
    }

    fn urgency(&self) -> Urgency {
        match self {
            Self::OfRole(_, urgency) => *urgency,
            Self::OfLease(_) | Self::Unused(_) | Self::Rejected | Self::TornDown(_) => {
                Urgency::Revocation
            }
            Self::Unknown(_) | Self::UnknownLease => Urgency::Ordinary,
            Self::Ordered(_) => Urgency::Emergency,
        }
    }
}

/// Deletes a key at OpenRouter. A key that no longer exists counts as deleted.
///
/// # Errors
/// [`Error::OpenRouter`] if it is not certain that the key is deleted; [`Error::Missing`] if there is no such
/// connection.
pub async fn retire(
    engine: &Engine,
    connection: &ConnectionName,
    hash: &KeyHash,
    warrant: Warrant<'_>,
) -> Result<Deletion, Error> {
    let link = engine.links.open(&*engine.storage, connection).await?;
    let turn = link.client(warrant.urgency()).await;
    tracing::debug!(mount = engine.mount, key_hash = %hash, reason = warrant.reason(), "revoking");
    let deleted = turn.delete_key(hash).await;
    let deleted = deleted.map_err(Error::while_doing(format!(
        "key {hash} could not be revoked"
    )));
    warrant.note_outcome(&deleted);
    match &deleted {
        Ok(_) => engine.meters.revoked(warrant.label()),
        Err(reason) => engine.meters.revocation_failed(reason.label()),
    }
    deleted
}

/// The outcome of [`hold`] and [`release`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switched {
    /// The key is in the requested state.
    Done,
    /// OpenRouter no longer knows the key.
    Gone,
}

/// Disables a key at OpenRouter. The key can no longer spend, its usage can still be read, and [`release`]
/// enables it again.
///
/// # Errors
/// [`Error::OpenRouter`] if it is not certain that the key is disabled; [`Error::Missing`] if there is no
/// such connection.
pub async fn hold(
    engine: &Engine,
    connection: &ConnectionName,
    hash: &KeyHash,
    warrant: Warrant<'_>,
) -> Result<Switched, Error> {
    let link = engine.links.open(&*engine.storage, connection).await?;
    let turn = link.client(warrant.urgency()).await;
    tracing::debug!(mount = engine.mount, key_hash = %hash, reason = warrant.reason(), "disabling");
    let held = switched(turn.set_disabled(hash, true).await).map_err(Error::while_doing(format!(
        "key {hash} could not be disabled"
    )));
    warrant.note_outcome(&held);
    match &held {
        Ok(Switched::Done) => engine.meters.held(),
        Ok(Switched::Gone) => {}
        Err(reason) => engine.meters.revocation_failed(reason.label()),
    }
    held
}

/// Enables a key for its role again that [`hold`] has disabled.
///
/// # Errors
/// As for [`hold`].
pub async fn release(
    guard: &RoleGuard<'_>,
    connection: &ConnectionName,
    hash: &KeyHash,
) -> Result<Switched, Error> {
    let engine = guard.engine();
    let link = engine.links.open(&*engine.storage, connection).await?;
    let turn = link.client(Urgency::Ordinary).await;
    switched(turn.set_disabled(hash, false).await).map_err(Error::while_doing(format!(
        "key {hash} could not be enabled"
    )))
}

fn switched(answer: Result<(), openrouter::Error>) -> Result<Switched, openrouter::Error> {
    match answer {
        Ok(()) => Ok(Switched::Done),
        Err(openrouter::Error::NotFound { .. }) => Ok(Switched::Gone),
        Err(reason) => Err(reason),
    }
}
