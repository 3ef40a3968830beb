//! A read of `creds/:name` of a dynamic role: creates a key and hands it out under a lease.

use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Serialize;

use super::ending;
use super::lease::LeaseData;
use crate::engine::books::{LeasedKey, OpenBooks, Record, Requester, Reservation, Wanted};
use crate::engine::clock::{after, seconds_until};
use crate::engine::connection::Urgency;
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::keys::{Minted, Order, Recipient, discard, mint};
use crate::engine::names::RoleName;
use crate::engine::role::budget::Amount;
use crate::engine::role::dynamic::{DynamicRole, LINGER, NameTemplate};
use crate::engine::role::{capped, shortened};
use crate::engine::stored;
use crate::logical::{Lease, Request, Response};
use crate::openrouter::{KeyHash, LimitReset, Usd};

/// Creates a key and leases it. Only for nodes that may write.
///
/// # Errors
/// [`Error::Full`] if the role has reached its maximum number of leases, or its budget has no room for
/// another one; [`Error::CallerGone`]; errors of [`mint`] and of storage. No error leaves a key behind that
/// is not tracked.
pub async fn issue(
    engine: &Engine,
    name: &RoleName,
    role: &DynamicRole,
    request: &Request,
    longest: Duration,
) -> Result<Response, Error> {
    let books = engine.books().await?;
    let _coming = books.leases.admit(name, role.max_leases)?;
    let grant = grant(role);
    let wanted_at = engine.now();
    let reserved = reserve(engine, &books, name, role, grant)?;
    let key_name = key_name(engine, role, request).await?;
    let span = Span::of(role, longest);
    let ttl = span.ttl;
    let order = Order {
        recipient: Recipient::Reader(name),
        life: &role.life,
        place: role.terms.place(),
        key_name: &key_name,
        limits: role.terms.limits,
        grant,
        ceiling: role.terms.ceiling(),
        guardrail: role.terms.guardrail_id.as_ref(),
        creator_user_id: role.terms.creator_user_id.as_deref(),
        // After the last moment to which the lease can be renewed.
        lifetime: Some(span.max_ttl.saturating_add(LINGER)),
        // Not max_ttl: if a snapshot is restored that does not contain the lease, it does not contain its
        // renewals either, and the server revokes each lease at the time that it stored itself.
        in_use: ttl,
        urgency: Urgency::Ordinary,
        caller_gone: &request.caller_gone,
    };
    let asked_at = engine.now();
    let minted = mint(engine, order).await?;
    if request.caller_gone.is_cancelled() {
        discard(engine, minted).await;
        return Err(Error::CallerGone);
    }
    if let Some(reason) = clock_is_ahead(role, wanted_at, minted.created.key.created_at) {
        discard(engine, minted).await;
        return Err(reason);
    }
    if let Some(reserved) = &reserved {
        reserved.made(minted.in_flight.nonce());
    }
    let key = LeasedKey {
        nonce: minted.in_flight.nonce().clone(),
        role: name.clone(),
        connection: role.terms.connection.clone(),
        key_hash: minted.created.key.hash.clone(),
    };
    tracing::info!(
        mount = engine.mount,
        role = %name,
        key_hash = %key.key_hash,
        "made a key for a lease"
    );
    let now = engine.now();
    let span = span.within(minted.expires_at, now);
    let ttl = span.ttl;
    if ttl == 0 {
        // The server would take that for its default duration.
        let connection = role.terms.connection.to_string();
        discard(engine, minted).await;
        return Err(Error::Invalid(format!(
            "the max_key_lifetime of connection {connection:?} is too short for a lease: it has to be more \
             than {LINGER} seconds"
        )));
    }
    let response = response(role, span, &minted, key.clone())?;
    let record = Record {
        key: key.clone(),
        until: after(now, ttl),
        workspace_id: minted.place.workspace_id.clone(),
        granted: Some(role.terms.limits),
        placed: false,
        guardrail_unproved: false,
        guardrail_id: role.terms.guardrail_id.clone(),
        requester: Some(requester(request, asked_at)),
        grant,
        tracked: role.terms.budget.is_none() && role.terms.track_usage,
        ended: None,
    };
    ending::watch(engine, &record);
    // Before the key is handed out: if the reply is lost, the record leads to the key. Until the record is
    // stored, the intent does.
    let begun = books.leases.begin(&*engine.storage, record.clone(), now);
    begun.await?;
    minted.in_flight.taken_over();
    // From here on a change of the guardrail reaches the record. An earlier change may have missed it.
    if !books.leases.is_guarded(&record) {
        ending::give_back(engine, &books, &key).await;
        return Err(Error::Conflict(format!(
            "role {:?} was given another guardrail while its key was made; read again",
            name.to_string()
        )));
    }
    if request.caller_gone.is_cancelled() {
        ending::give_back(engine, &books, &key).await;
        return Err(Error::CallerGone);
    }
    // A teardown that began while the key was made would revoke the key before the reader has it.
    if let Err(reason) = engine.require_in_service() {
        ending::give_back(engine, &books, &key).await;
        return Err(reason);
    }
    Ok(response)
}

/// What the key of a lease takes out of the role's budget.
fn grant(role: &DynamicRole) -> Option<Amount> {
    role.terms.budget?;
    Some(Amount::of_limit(role.terms.limits.limit.map(Usd::as_f64)))
}

/// Reserves the amount before the key is ordered.
fn reserve(
    engine: &Engine,
    books: &OpenBooks,
    role: &RoleName,
    entry: &DynamicRole,
    grant: Option<Amount>,
) -> Result<Option<Reservation>, Error> {
    let (Some(budget), Some(amount)) = (&entry.terms.budget, grant) else {
        return Ok(None);
    };
    let wanted = Wanted {
        role,
        amount,
        budget,
        pool: entry.pool.as_ref(),
        now: engine.now(),
    };
    books.leases.reserve(&wanted, &books.intents).map(Some)
}

/// Returns why the key must not be handed out, if this node's clock is ahead: by this clock the next window
/// of the budget has begun, and earlier spending no longer counts, but by the key's creation time at
/// OpenRouter it has not begun.
fn clock_is_ahead(
    role: &DynamicRole,
    now: Timestamp,
    created_at: Option<Timestamp>,
) -> Option<Error> {
    let there = created_at?;
    let next = role.terms.budget?.is_ahead(now, there)?;
    Some(Error::Full {
        message: format!(
            "the window of the role's budget has not begun at OpenRouter: its clock says {there}, this \
             server's clock says {now}; there is room again when OpenRouter's clock says {next}"
        ),
        retry_after: Some(seconds_until(there, next).saturating_add(1)),
    })
}

/// The requester as the server's audit log names it. An engine never learns the lease's id.
fn requester(request: &Request, now: Timestamp) -> Requester {
    Requester {
        display_name: request.display_name.clone(),
        entity_id: request.entity_id.clone(),
        request_id: request.id.clone(),
        at: now,
    }
}

async fn key_name(engine: &Engine, role: &DynamicRole, request: &Request) -> Result<String, Error> {
    let template = NameTemplate::parse(&role.terms.key_name)?;
    let entity = if template.needs_entity() && !request.entity_id.is_empty() {
        engine.system.entity_name(&request.entity_id).await?
    } else {
        None
    };
    Ok(template.fill(&request.display_name, entity.as_deref()))
}

/// The duration of a lease, in seconds.
struct Span {
    ttl: u64,
    max_ttl: u64,
    warning: Option<String>,
}

impl Span {
    /// The role's durations, limited by the mount's maximum.
    fn of(role: &DynamicRole, longest: Duration) -> Self {
        let max_ttl = capped(role.max_ttl, longest);
        let ttl = role.ttl.min(max_ttl);
        Self {
            ttl,
            max_ttl,
            warning: shortened(role.ttl, ttl),
        }
    }

    /// These durations, limited by the key's expiry: the connection may allow no longer lifetime.
    fn within(mut self, expires_at: Option<Timestamp>, now: Timestamp) -> Self {
        let Some(expires_at) = expires_at else {
            return self;
        };
        let lives = seconds_until(now, expires_at);
        if lives >= self.max_ttl {
            return self;
        }
        self.max_ttl = lives.saturating_sub(LINGER);
        if self.max_ttl < self.ttl {
            self.ttl = self.max_ttl;
            self.warning = Some(format!(
                "the key expires at {expires_at}, so the lease ends after {} seconds",
                self.ttl
            ));
        }
        self
    }
}

fn response(
    role: &DynamicRole,
    span: Span,
    minted: &Minted,
    key: LeasedKey,
) -> Result<Response, Error> {
    let view = View {
        api_key: &minted.created.secret,
        key_hash: &key.key_hash,
        key_name: &minted.name,
        limit: role.terms.limits.limit,
        limit_reset: role.terms.limits.reset,
        expires_at: minted.expires_at,
    };
    let mut response = Response::showing(&view)
        .map_err(Error::Answer)?
        .with_warnings(span.warning);
    let lease_data = LeaseData {
        key,
        expires_at: minted.expires_at,
    };
    response.secret = Some(lease_data.under(Lease {
        ttl: Duration::from_secs(span.ttl),
        max_ttl: Duration::from_secs(span.max_ttl),
        renewable: true,
    }));
    Ok(response)
}

/// The response to a reader.
#[derive(Serialize, JsonSchema)]
pub struct View<'a> {
    /// The API key.
    #[serde(serialize_with = "stored::exposed")]
    #[schemars(with = "String")]
    api_key: &'a SecretString,
    /// The key's hash: the SHA-256 of the key, by which OpenRouter's API identifies it.
    key_hash: &'a KeyHash,
    /// The key's name at OpenRouter.
    key_name: &'a str,
    /// The key's limit, in US dollars; null if there is none.
    limit: Option<Usd>,
    /// When the limit resets; null if it does not.
    limit_reset: Option<LimitReset>,
    /// When the key expires at OpenRouter.
    expires_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_before_its_key_does() {
        let now: Timestamp = "2026-11-27T12:00:00Z".parse().unwrap();
        let span = || Span {
            ttl: 3_600,
            max_ttl: 7_200,
            warning: None,
        };
        let within = |lives| {
            let span = span().within(Some(after(now, lives)), now);
            (span.ttl, span.max_ttl, span.warning.is_some())
        };
        assert_eq!(within(7_200), (3_600, 7_200, false));
        assert_eq!(within(7_199), (3_600, 6_899, false));
        // What is left is exactly the ttl, so there is nothing to warn of.
        assert_eq!(within(3_900), (3_600, 3_600, false));
        assert_eq!(within(1_800), (1_500, 1_500, true));
        assert_eq!(within(60), (0, 0, true));
        let endless = span().within(None, now);
        assert_eq!((endless.ttl, endless.max_ttl), (3_600, 7_200));
    }
}
