//! Making a key: announced, ordered, proved. Used for a role's first key and for each rotation.
//!
//! # Expected flow
//! 1. The intent is stored, with a fresh nonce that the key's name ends in.
//! 2. The key is ordered from OpenRouter.
//! 3. The key proves itself: its hash is that of its secret, its terms are those of the order, and
//!    it authenticates.
//!
//! The caller then stores the key, and strikes the intent out once that has succeeded.
//!
//! # Guarantees
//! - No key is ordered unless the intent to do so is in storage.
//! - An error leaves either no key at OpenRouter and no intent, or an intent that is adrift: the
//!   key is then found by its nonce and deleted.
//! - The same holds when the process dies at any point, or the task is dropped at any await.
//!
//! # Errors
//! A definite refusal strikes the intent out at once, and so does the deletion of a key that did not
//! prove itself; whatever is unclear leaves it adrift.

use jiff::{SignedDuration, Timestamp, Unit};

use super::intent::{InFlight, Intent};
use crate::engine::connection::Link;
use crate::engine::error::Error;
use crate::engine::nonce::Nonce;
use crate::engine::role::{CurrentKey, Definition, RoleName};
use crate::engine::state::Engine;
use crate::openrouter::{self, CreatedKey, Deletion, KeyHash, NewKey};

/// The key that a role is to get next.
pub struct Order<'a> {
    /// For whom.
    pub role: &'a RoleName,
    /// What the role asks for.
    pub definition: &'a Definition,
    /// Which of the role's keys it will be.
    pub version: u64,
    /// Whether a person asked for it, rather than the schedule.
    pub manual: bool,
}

/// A key that proved itself. It is lost unless it is stored before `in_flight` is dropped.
pub struct Minted {
    /// The key, current from now on.
    pub key: CurrentKey,
    /// Its intent, to be struck out when the key is stored.
    pub in_flight: InFlight,
}

/// Makes a key.
///
/// # Errors
/// See the module's page.
pub async fn mint(engine: &Engine, order: Order<'_>) -> Result<Minted, Error> {
    let definition = order.definition;
    let link = engine
        .links
        .open(&*engine.storage, &definition.connection)
        .await?;
    let now = engine.clock.now();
    let nonce = Nonce::new(&*engine.randomness);
    let new = NewKey {
        name: key_name(&definition.key_name, now, &nonce),
        limits: definition.limits,
        expires_at: definition.rotation.expiry(now).map(whole_seconds),
        workspace_id: definition.workspace_id.clone(),
    };
    let intent = Intent {
        nonce,
        role: order.role.clone(),
        version: order.version,
        key_name: new.name.clone(),
        connection: definition.connection.clone(),
        workspace_id: new.workspace_id.clone(),
    };
    // Stored before the order: should its reply be lost, the nonce is how the key is found again.
    let in_flight = engine
        .intents
        .announce(&*engine.storage, intent, now, &engine.keeper)
        .await?;

    let created = match link.client().await.create_key(&new).await {
        Ok(created) => created,
        Err(reason) => {
            if reason.is_definite() {
                // Nothing was made. Should striking it out fail, the recovery will find nothing.
                let nonce = in_flight.nonce();
                engine.intents.strike(&*engine.storage, nonce).await?;
            }
            return Err(Error::OpenRouter {
                doing: "no key could be created".to_owned(),
                reason,
            });
        }
    };
    if let Err(reason) = prove(engine, &link, &created, &new).await {
        reject(engine, &link, &created, &in_flight).await;
        return Err(reason);
    }

    let since = engine.clock.now();
    let schedule = &definition.rotation.schedule;
    Ok(Minted {
        key: CurrentKey {
            hash: created.key.hash,
            label: created.key.label,
            secret: created.secret,
            name: new.name,
            version: order.version,
            connection: definition.connection.clone(),
            since,
            anchor: if order.manual {
                since
            } else {
                schedule.anchor(since)
            },
            manual: order.manual,
            expires_at: new.expires_at,
            limits: new.limits,
            promised_until: None,
        },
        in_flight,
    })
}

/// Strikes out the intent of a key that is in service, or gone. If that fails the recovery will do it.
pub async fn strike(engine: &Engine, in_flight: &InFlight) {
    let struck = engine.intents.strike(&*engine.storage, in_flight.nonce());
    if let Err(reason) = struck.await {
        tracing::debug!(mount = engine.mount, %reason, "an intent stays until its recovery");
    }
}

/// Proves a new key with what OpenRouter answered to the order, and with the key itself.
async fn prove(
    engine: &Engine,
    link: &Link,
    created: &CreatedKey,
    new: &NewKey,
) -> Result<(), Error> {
    let key = &created.key;
    let unproven = |what: &str| Err(Error::Unproven(format!("OpenRouter's answer has {what}")));
    if KeyHash::of(&created.secret) != key.hash {
        return unproven("a hash that is not that of the key");
    }
    if key.name != new.name {
        return unproven("another name than was ordered");
    }
    if !key.limits.agree_with(&new.limits) {
        return unproven("other limits than were ordered");
    }
    if key.expires_at != new.expires_at {
        return unproven("another expiry than was ordered");
    }
    if new.workspace_id.is_some() && key.workspace_id != new.workspace_id {
        return unproven("another workspace than was ordered");
    }
    if key.disabled {
        return unproven("a key that is disabled");
    }
    let itself = authenticate(engine, link, created).await?;
    if itself.label != key.label {
        return unproven("another label than the key gives itself");
    }
    if !itself.limits.agree_with(&new.limits) {
        return unproven("other limits than the key gives itself");
    }
    // OpenRouter's description has this one as optional here.
    if itself.expires_at.is_some() && itself.expires_at != new.expires_at {
        return unproven("another expiry than the key gives itself");
    }
    Ok(())
}

/// Deletes a key that did not prove itself, by the hash of its secret: it may have a name, or be in a
/// workspace, by which the recovery would not find it. What does not succeed here leaves the intent
/// adrift, and so the key to the recovery.
async fn reject(engine: &Engine, link: &Link, created: &CreatedKey, in_flight: &InFlight) {
    // Not by the hash that OpenRouter told: if that is wrong, it may be another key's.
    let hash = KeyHash::of(&created.secret);
    if let Ok(Deletion::Deleted) = link.client().await.delete_key(&hash).await {
        strike(engine, in_flight).await;
    }
}

/// Asks OpenRouter about the key, with the key. A new key may take a moment to be known everywhere,
/// so it gets a few tries.
async fn authenticate(
    engine: &Engine,
    link: &Link,
    created: &CreatedKey,
) -> Result<openrouter::CurrentKey, Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        match link.client().await.current_key(&created.secret).await {
            Ok(key) => return Ok(key),
            Err(reason) if tries == PROOF_TRIES => {
                return Err(Error::Unproven(format!(
                    "it does not authenticate: {reason}"
                )));
            }
            Err(_) => {
                let pause = PROOF_PAUSE.saturating_mul(tries);
                let now = engine.clock.now();
                engine
                    .clock
                    .sleep_until(now.checked_add(pause).unwrap_or(now))
                    .await;
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

const PROOF_TRIES: i32 = 3;
const PROOF_PAUSE: SignedDuration = SignedDuration::from_millis(300);
