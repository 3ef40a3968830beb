//! Making a key: announced, ordered, proved. Called for a role's own keys and for those of leases.
//! Knows nothing of what the key is for beyond its [`Purpose`].

use jiff::{Timestamp, Unit};
use tokio_util::sync::CancellationToken;

use super::guard::assign_new;
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

/// A key that is wanted.
pub struct Order<'a> {
    /// For whom.
    pub recipient: Recipient<'a>,
    /// The life of the role that it is for.
    pub life: &'a Life,
    /// Where.
    pub place: Place,
    /// What its name begins with.
    pub key_name: &'a str,
    /// What it may spend.
    pub limits: Limits,
    /// The most that it may be given later, or that is: what the bounds of the connection are about.
    pub ceiling: Option<Usd>,
    /// What it takes out of its role's budget, as the key of a lease.
    pub grant: Option<Amount>,
    /// What it is to be held to before anybody gets it.
    pub guardrail: Option<&'a GuardrailId>,
    /// Whom it is to belong to, by user id.
    pub creator_user_id: Option<&'a str>,
    /// How long it works from when it is ordered, in seconds; `None` is for ever. Time spent on
    /// waiting for a turn comes on top.
    pub lifetime: Option<u64>,
    /// How long somebody may use it of whom storage does not know any more, in seconds.
    pub in_use: u64,
    /// Who it must not wait behind.
    pub urgency: Urgency,
    /// Cancelled when nobody waits for the key any more. Until the key is ordered, giving up costs
    /// nothing.
    pub caller_gone: &'a CancellationToken,
}

/// Whom a key is for.
#[derive(Clone, Copy)]
pub enum Recipient<'a> {
    /// A role, as its key of this version, by the task that may change the role.
    Role(&'a RoleGuard<'a>, u64),
    /// The reader of a role, under a lease.
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

/// A key that proved itself. It is lost unless it is stored, or handed on, before `in_flight` is
/// dropped.
#[derive(Debug)]
pub struct Minted {
    /// The key, with its secret.
    pub created: CreatedKey,
    /// Its whole name, which ends in the nonce that it was ordered with.
    pub name: String,
    /// Where it was made.
    pub place: Place,
    /// Under which address of the connection.
    pub address: AddressId,
    /// When it stops working, in whole seconds.
    pub expires_at: Option<Timestamp>,
    /// Its intent, to be struck out when the key is where it belongs: see [`Purpose`].
    pub in_flight: InFlight,
}

/// Makes a key.
///
/// # Errors
/// [`Error::Missing`] without the connection. [`Error::OpenRouter`] when OpenRouter refused, or
/// nobody knows what it did, or it could not be asked about an earlier order for the role;
/// [`Error::Conflict`] when there are too many of those, or it is not certain yet what became of a
/// switch; [`Error::CallerGone`]; [`Error::Unusable`] while the mount is torn down; [`Error::Unproven`]
/// for a key that is not what was ordered. What
/// each leaves behind is on the module's page.
pub async fn mint(engine: &Engine, order: Order<'_>) -> Result<Minted, Error> {
    let books = engine.books().await?;
    engine.require_in_service()?;
    // Before the connection is looked up, so that it cannot be deleted in between.
    let in_use = engine.links.use_for_making(&order.place.connection)?;
    let link = engine.links.open(&*engine.storage, &order.place.connection);
    let link = link.await?;
    let (bounds, ceiling) = (link.bounds(), order.ceiling);
    bounds.admit(&order.place.connection, order.recipient.role(), ceiling)?;
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
    // Whoever reads waits for the answer: one request it is, but for a guardrail.
    if proved.is_ok() && matches!(order.recipient, Recipient::Role(..)) {
        let (urgency, guardrail) = (order.urgency, order.guardrail);
        proved = prove::by_itself(engine, &link, urgency, &created, &new, guardrail).await;
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

/// Strikes out the intent of a key that is in its role's entry, or gone. If that fails the recovery
/// will do it.
pub async fn strike(engine: &Engine, in_flight: &InFlight) {
    let struck = in_flight.strike(&*engine.storage);
    if let Err(reason) = struck.await {
        tracing::debug!(mount = engine.mount, %reason, "an intent stays until its recovery");
    }
}

/// Deletes a key that nobody has got, by the hash of its secret: it may have a name, or be in a
/// workspace, by which no look would find it. The hash is stored first, since nobody will know the
/// secret later. What does not succeed here leaves the intent adrift, and so the key to the recovery.
pub async fn discard(engine: &Engine, minted: Minted) {
    // Not the hash that OpenRouter told: if that is wrong, it may be another key's.
    let hash = KeyHash::of(&minted.created.secret);
    reject(engine, &minted.place.connection, &hash, minted.in_flight).await;
}

/// The same for a key of this hash that its caller does not want after all. `true` when it is gone.
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
            "the hash of a rejected key could not be stored"
        );
    }
    let unused = Warrant::Unused(&in_flight);
    let retired = retire(engine, connection, hash, unused).await;
    let is_gone = matches!(retired, Ok(Deletion::Deleted));
    if is_gone {
        strike(engine, &in_flight).await;
    }
    is_gone
}

/// What an order is made with.
struct Ordering<'a> {
    engine: &'a Engine,
    books: &'a OpenBooks,
    link: &'a Link,
}

impl Ordering<'_> {
    /// No longer than the connection allows: how long a cron schedule has a key live depends on when it
    /// is made.
    fn lifetime(&self, order: &Order<'_>) -> Option<u64> {
        let longest = self.link.bounds().max_key_lifetime;
        order.lifetime.into_iter().chain(longest).min()
    }

    /// Announces and orders a key, in one turn with OpenRouter. The turn comes first, so that whoever
    /// gives up while waiting for it leaves nothing behind, and ends with the answer: nobody may wait
    /// for a second turn while holding one.
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
        // After the wait, which can be long while OpenRouter hangs: the recovery counts from here.
        let now = engine.now();
        let origin = engine.origin(order.recipient.role(), order.life);
        let nonce = Nonce::new(&origin, &engine.series);
        let new = NewKey {
            name: key_name(order.key_name, now, &nonce),
            limits: order.limits,
            expires_at: self
                .lifetime(order)
                .map(|seconds| whole_seconds(after(now, seconds))),
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
        // Stored before the order: should its reply be lost, the nonce is how the key is found again.
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
        // Once more, after the wait. A teardown that began since then sees the intent and waits for it.
        if let Err(reason) = engine.require_in_service() {
            in_flight.strike(&*engine.storage).await?;
            return Err(reason);
        }
        let created = turn.create_key(&new).await;
        drop(turn);
        match created {
            Ok(created) => Ok((new, created, in_flight)),
            Err(reason) => {
                let mut doing = "no key could be created".to_owned();
                if reason.is_definite() {
                    // Nothing was made. Should striking it out fail, the recovery will find nothing.
                    in_flight.strike(&*engine.storage).await?;
                } else {
                    doing.push_str(" (if there is one all the same, it will be found and deleted)");
                }
                Err(Error::OpenRouter { doing, reason })
            }
        }
    }
}

/// `<key_name> <YYYY-MM-DD> vault-<nonce>`: a person sees which generation a key is.
fn key_name(key_name: &str, now: Timestamp, nonce: &Nonce) -> String {
    format!("{key_name} {} {}", now.strftime("%Y-%m-%d"), nonce.marker())
}

/// What OpenRouter stores, so that its answer can be compared.
fn whole_seconds(at: Timestamp) -> Timestamp {
    at.round(Unit::Second).unwrap_or(at)
}

#[cfg(test)]
mod tests;
