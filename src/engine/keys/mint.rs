//! Making a key: announced, ordered, proved. Called for a role's own keys and for those of leases.
//! Knows nothing of what the key is for beyond its [`Purpose`].

use jiff::{Timestamp, Unit};

use super::prove;
use super::recover::settle_earlier;
use crate::engine::books::{InFlight, Intent, Purpose};
use crate::engine::clock::after;
use crate::engine::connection::Link;
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::{ConnectionName, Nonce, Place, RoleName};
use crate::openrouter::{CreatedKey, Deletion, KeyHash, Limits, NewKey, WorkspaceId};

/// A key that is wanted.
pub struct Order<'a> {
    /// For which role. Whoever orders a key of the role's own holds the role's lock.
    pub role: &'a RoleName,
    /// Through which connection.
    pub connection: &'a ConnectionName,
    /// What its name begins with.
    pub key_name: &'a str,
    /// What it may spend.
    pub limits: Limits,
    /// In which workspace; `None` is the account's default one.
    pub workspace_id: Option<&'a WorkspaceId>,
    /// How long it works from when it is ordered, in seconds; `None` is for ever. Time spent on
    /// waiting for a turn comes on top.
    pub lifetime: Option<u64>,
    /// What for.
    pub purpose: Purpose,
}

/// A key that proved itself. It is lost unless it is stored, or handed on, before `in_flight` is
/// dropped.
#[derive(Debug)]
pub struct Minted {
    /// The key, with its secret.
    pub created: CreatedKey,
    /// Its whole name, which ends in the nonce that it was ordered with.
    pub name: String,
    /// When it stops working, in whole seconds.
    pub expires_at: Option<Timestamp>,
    /// Its intent, to be struck out when the key is where it belongs: see [`Purpose`].
    pub in_flight: InFlight,
}

/// Makes a key.
///
/// # Errors
/// [`Error::Missing`] without the connection. [`Error::OpenRouter`] when OpenRouter refused, or
/// nobody knows what it did, or it could not be asked what came of an earlier order for the role;
/// [`Error::Conflict`] when there are too many of those; [`Error::Unproven`] for a key that is not
/// what was ordered. What each leaves behind is on the module's page.
pub async fn mint(engine: &Engine, order: Order<'_>) -> Result<Minted, Error> {
    let place = Place {
        connection: order.connection.clone(),
        workspace_id: order.workspace_id.cloned(),
    };
    let link = engine
        .links
        .open(&*engine.storage, order.connection)
        .await?;
    let proof_by_itself = match order.purpose {
        Purpose::Rotation { .. } => {
            settle_earlier(engine, order.role, &place).await?;
            true
        }
        // Whoever reads waits for the answer: one request it is.
        Purpose::Lease => false,
    };
    let (new, created, in_flight) = place_order(engine, &link, order, place).await?;
    let mut proved = prove::by_answer(&created, &new);
    if proved.is_ok() && proof_by_itself {
        proved = prove::by_itself(engine, &link, &created, &new).await;
    }
    if let Err(reason) = proved {
        reject(engine, &link, &created, &in_flight).await;
        return Err(reason);
    }
    Ok(Minted {
        created,
        name: new.name,
        expires_at: new.expires_at,
        in_flight,
    })
}

/// Strikes out the intent of a key that is in its role's entry, or gone. If that fails the recovery
/// will do it.
pub async fn strike(engine: &Engine, in_flight: &InFlight) {
    let struck = engine.intents.strike(&*engine.storage, in_flight.nonce());
    if let Err(reason) = struck.await {
        tracing::debug!(mount = engine.mount, %reason, "an intent stays until its recovery");
    }
}

/// Announces and orders a key, in one turn with OpenRouter. The turn comes first, so that whoever
/// gives up while waiting for it leaves nothing behind, and ends with the answer: nobody may wait
/// for a second turn while holding one.
async fn place_order(
    engine: &Engine,
    link: &Link,
    order: Order<'_>,
    place: Place,
) -> Result<(NewKey, CreatedKey, InFlight), Error> {
    let making = link.making().await;
    // Before the intent is dated, too: the recovery counts from that date, and the wait can be long
    // while OpenRouter hangs.
    let turn = link.client().await;
    let now = engine.clock.now();
    let nonce = Nonce::new(&engine.origin(order.role), &*engine.randomness);
    let new = NewKey {
        name: key_name(order.key_name, now, &nonce),
        limits: order.limits,
        expires_at: order
            .lifetime
            .map(|seconds| whole_seconds(after(now, seconds))),
        workspace_id: place.workspace_id.clone(),
    };
    let intent = Intent {
        nonce,
        role: order.role.clone(),
        purpose: order.purpose,
        key_name: new.name.clone(),
        place,
        rejected: None,
    };
    // Stored before the order: should its reply be lost, the nonce is how the key is found again.
    let in_flight = engine
        .intents
        .announce(&*engine.storage, intent, now, &engine.keeper, making)
        .await?;
    let created = turn.create_key(&new).await;
    drop(turn);
    match created {
        Ok(created) => Ok((new, created, in_flight)),
        Err(reason) => {
            let mut doing = "no key could be created".to_owned();
            if reason.is_definite() {
                // Nothing was made. Should striking it out fail, the recovery will find nothing.
                let nonce = in_flight.nonce();
                engine.intents.strike(&*engine.storage, nonce).await?;
            } else {
                doing.push_str(" (if there is one all the same, it will be found and deleted)");
            }
            Err(Error::OpenRouter { doing, reason })
        }
    }
}

/// Deletes a key that did not prove itself, by the hash of its secret: it may have a name, or be in a
/// workspace, by which no look would find it. The hash is stored first, since nobody will know the
/// secret later. What does not succeed here leaves the intent adrift, and so the key to the recovery.
async fn reject(engine: &Engine, link: &Link, created: &CreatedKey, in_flight: &InFlight) {
    // Not the hash that OpenRouter told: if that is wrong, it may be another key's.
    let hash = KeyHash::of(&created.secret);
    let noted = engine
        .intents
        .reject(&*engine.storage, in_flight.nonce(), &hash);
    if let Err(reason) = noted.await {
        tracing::warn!(
            mount = engine.mount,
            key_hash = %hash,
            %reason,
            "the hash of a rejected key could not be stored"
        );
    }
    if let Ok(Deletion::Deleted) = link.client().await.delete_key(&hash).await {
        strike(engine, in_flight).await;
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
