//! Creates a key: stores an intent, orders the key, and verifies it. Used for the keys of roles and of
//! leases, which differ only in their [`Purpose`].

use jiff::{Timestamp, Unit};
use tokio_util::sync::CancellationToken;

use super::assign::assign_new;
use super::prove;
use super::recover::settle_earlier;
use super::retire::{Warrant, retire};
use crate::engine::books::{InFlight, Intent, OpenBooks, Purpose};
use crate::engine::clock::after;
use crate::engine::connection::{InUse, Link, Urgency};
use crate::engine::context::{Engine, RoleGuard};
use crate::engine::error::Error;
use crate::engine::names::{AddressId, ConnectionName, Life, Nonce, Place, RoleName};
use crate::engine::role::budget::Amount;
use crate::openrouter::{CreatedKey, Deletion, GuardrailId, KeyHash, Limits, NewKey, Usd};

/// The key to create.
pub struct Order<'a> {
    /// The purpose.
    pub recipient: Recipient<'a>,
    /// The life of its role.
    pub life: &'a Life,
    /// The place.
    pub place: Place,
    /// The beginning of its name.
    pub key_name: &'a str,
    /// Its limits.
    pub limits: Limits,
    /// The highest limit that it can have now or later, which is checked against the connection's bounds.
    pub ceiling: Option<Usd>,
    /// For the key of a lease, what it takes out of its role's budget.
    pub grant: Option<Amount>,
    /// The guardrail to assign before the key is handed out.
    pub guardrail: Option<&'a GuardrailId>,
    /// The user id of the member to whom it belongs.
    pub creator_user_id: Option<&'a str>,
    /// Its lifetime in seconds, counted from the order; `None` is unlimited. The wait for a turn does not
    /// count.
    pub lifetime: Option<u64>,
    /// How long the key may be used after storage has lost track of it, in seconds.
    pub in_use: u64,
    /// Its urgency.
    pub urgency: Urgency,
    /// Cancelled when the caller is gone. Before the order, that leaves nothing behind.
    pub caller_gone: &'a CancellationToken,
}

/// The purpose of a key.
#[derive(Clone, Copy)]
pub enum Recipient<'a> {
    /// A role's key of this version. The caller holds the role's lock.
    Role(&'a RoleGuard<'a>, u64),
    /// A lease of a role.
    Reader(&'a RoleName),
}

impl Recipient<'_> {
    fn role(&self) -> &RoleName {
        match self {
            Self::Role(guard, _) => guard.name(),
            Self::Reader(role) => role,
        }
    }

    fn purpose(&self) -> Purpose {
        match self {
            Self::Role(_, version) => Purpose::Rotation { version: *version },
            Self::Reader(_) => Purpose::Lease,
        }
    }
}

/// A verified key. It is lost unless it is stored or handed on before `in_flight` is dropped.
#[derive(Debug)]
pub struct Minted {
    /// The key, with its secret.
    pub created: CreatedKey,
    /// Its whole name, which ends with its nonce.
    pub name: String,
    /// The place where it was created.
    pub place: Place,
    /// The address of the connection at that time.
    pub address: AddressId,
    /// When it expires, in whole seconds.
    pub expires_at: Option<Timestamp>,
    /// Its intent, to be deleted when the key is stored or handed on: see [`Purpose`].
    pub in_flight: InFlight,
}

/// Creates a key.
///
/// # Errors
/// [`Error::Missing`] if there is no such connection. [`Error::OpenRouter`] if OpenRouter refused, if the
/// outcome is unknown, or if OpenRouter could not be asked about an earlier order for the role.
/// [`Error::Conflict`] if there are too many such orders, or the outcome of a switch is not certain yet.
/// [`Error::CallerGone`]. [`Error::Unusable`] while the mount is torn down. [`Error::Unproven`] for a key
/// that differs from the order. The module's page says what each leaves behind.
pub async fn mint(engine: &Engine, order: Order<'_>) -> Result<Minted, Error> {
    let books = engine.books().await?;
    engine.require_in_service()?;
    // Before the connection is opened, so that it cannot be deleted in between.
    let in_use = engine.links.use_for_making(&order.place.connection)?;
    let link = engine.links.open(&*engine.storage, &order.place.connection);
    let link = link.await?;
    let (bounds, ceiling) = (link.bounds(), order.ceiling);
    bounds.check_order(&order.place.connection, order.recipient.role(), ceiling)?;
    if let Recipient::Role(guard, _) = order.recipient {
        let urgent = order.urgency == Urgency::Emergency;
        settle_earlier(guard, &books, &order.place, urgent).await?;
    }
    let ordering = Ordering {
        engine,
        books: &books,
        link: &link,
    };
    let (new, created, in_flight) = ordering.place_order(&order, in_use).await?;
    let mut proved = prove::by_answer(&created, &new);
    if proved.is_ok()
        && let Some(guardrail) = order.guardrail
    {
        let hash = &created.key.hash;
        proved = assign_new(engine, &link, order.urgency, guardrail, hash).await;
    }
    // A reader waits for the answer, so this is one request, plus those for a guardrail.
    if proved.is_ok() && matches!(order.recipient, Recipient::Role(..)) {
        let (urgency, guardrail) = (order.urgency, order.guardrail);
        proved = prove::by_authenticating(engine, &link, urgency, &created, &new, guardrail).await;
    }
    let minted = Minted {
        created,
        name: new.name,
        place: order.place,
        address: link.address().id().clone(),
        expires_at: new.expires_at,
        in_flight,
    };
    match proved {
        Ok(()) => Ok(minted),
        Err(reason) => {
            discard(engine, minted).await;
            Err(reason)
        }
    }
}

/// Deletes the intent of a key that is in its role's entry, or gone. If that fails, recovery does it later.
pub async fn delete_intent(engine: &Engine, in_flight: &InFlight) {
    let deleted = in_flight.delete(&*engine.storage);
    if let Err(reason) = deleted.await {
        tracing::debug!(mount = engine.mount, %reason, "failed to delete an intent; it stays until \
                                                        its recovery");
    }
}

/// Deletes a key that was not handed out, by the hash of its secret. Recovery might not find it by its name
/// or workspace. The hash is stored first, since the secret will be unknown later. If the deletion fails,
/// the intent stays and recovery deletes the key.
pub async fn discard(engine: &Engine, minted: Minted) {
    // Not the hash in OpenRouter's answer: if that is wrong, it may be the hash of another key.
    let hash = KeyHash::of(&minted.created.secret);
    reject(engine, &minted.place.connection, &hash, minted.in_flight).await;
}

/// The same for a key with this hash that its caller rejects. `true` if it is gone.
pub async fn reject(
    engine: &Engine,
    connection: &ConnectionName,
    hash: &KeyHash,
    in_flight: InFlight,
) -> bool {
    let noted = in_flight.reject(&*engine.storage, hash);
    if let Err(reason) = noted.await {
        tracing::warn!(
            mount = engine.mount,
            key_hash = %hash,
            %reason,
            "failed to store the hash of a rejected key"
        );
    }
    let unused = Warrant::Unused(&in_flight);
    let retired = retire(engine, connection, hash, unused).await;
    let is_gone = matches!(retired, Ok(Deletion::Deleted));
    if is_gone {
        delete_intent(engine, &in_flight).await;
    }
    is_gone
}

/// What an order needs.
struct Ordering<'a> {
    engine: &'a Engine,
    books: &'a OpenBooks,
    link: &'a Link,
}

impl Ordering<'_> {
    /// Stores the intent and orders the key, in one turn with OpenRouter. The turn is taken first, so that a
    /// caller who gives up while waiting leaves nothing behind. It ends with the answer, because a holder of
    /// a turn must not wait for another.
    async fn place_order(
        &self,
        order: &Order<'_>,
        in_use: InUse,
    ) -> Result<(NewKey, CreatedKey, InFlight), Error> {
        let Self {
            engine,
            books,
            link,
        } = self;
        let waiting = async {
            let making = link.making(order.urgency).await;
            (making, link.client(order.urgency).await)
        };
        let (making, turn) = tokio::select! {
            biased;
            () = order.caller_gone.cancelled() => return Err(Error::CallerGone),
            places = waiting => places,
        };
        // After the wait, which can be long while OpenRouter hangs: the bounds may have been tightened, and
        // the role may be gone, which nobody checks then.
        let connection = &order.place.connection;
        let bounded = engine.links.open(&*engine.storage, connection).await?;
        let bounds = bounded.bounds();
        bounds.check_order(connection, order.recipient.role(), order.ceiling)?;
        // Shortened to what the connection allows. With a cron schedule it depends on the time of the order.
        let longest = bounds.max_key_lifetime;
        let lifetime = order.lifetime.into_iter().chain(longest).min();
        // Recovery counts from this time.
        let now = engine.now();
        let origin = engine.origin(order.recipient.role(), order.life);
        let nonce = Nonce::new(&origin, &engine.series);
        let new = NewKey {
            name: key_name(order.key_name, now, &nonce),
            limits: order.limits,
            expires_at: lifetime.map(|seconds| whole_seconds(after(now, seconds))),
            workspace_id: order.place.workspace_id.clone(),
            creator_user_id: order.creator_user_id.map(str::to_owned),
        };
        let intent = Intent {
            nonce,
            role: order.recipient.role().clone(),
            purpose: order.recipient.purpose(),
            key_name: new.name.clone(),
            place: order.place.clone(),
            in_use: Some(order.in_use),
            rejected: None,
            grant: order.grant,
        };
        // Stored before the order: if the reply is lost, the nonce identifies the key.
        let in_flight = books
            .intents
            .announce(
                &*engine.storage,
                intent,
                now,
                &engine.keeper,
                (making, in_use),
            )
            .await?;
        // Once more, after the wait. A teardown that began since then finds the intent and waits for it.
        if let Err(reason) = engine.require_in_service() {
            in_flight.delete(&*engine.storage).await?;
            return Err(reason);
        }
        let created = turn.create_key(&new).await;
        drop(turn);
        match created {
            Ok(created) => Ok((new, created, in_flight)),
            Err(reason) => {
                let mut doing = "no key could be created".to_owned();
                if reason.is_definite() {
                    // No key was created. If the intent cannot be deleted, recovery will find nothing.
                    in_flight.delete(&*engine.storage).await?;
                } else {
                    doing.push_str(" (if there is one all the same, it will be found and deleted)");
                }
                Err(Error::OpenRouter { doing, reason })
            }
        }
    }
}

/// `<key_name> <YYYY-MM-DD> vault-<nonce>`, so that people can see when the key was made.
fn key_name(key_name: &str, now: Timestamp, nonce: &Nonce) -> String {
    format!("{key_name} {} {}", now.strftime("%Y-%m-%d"), nonce.marker())
}

/// As OpenRouter stores it, so that its answer can be compared.
fn whole_seconds(at: Timestamp) -> Timestamp {
    at.round(Unit::Second).unwrap_or(at)
}

#[cfg(test)]
mod tests;
