//! Makes a role's next key, as its entry stores it. Used for the first key and for every later one. The
//! caller stores it.

use tokio_util::sync::CancellationToken;

use crate::engine::books::InFlight;
use crate::engine::connection::Urgency;
use crate::engine::context::RoleGuard;
use crate::engine::error::Error;
use crate::engine::keys::{Order, Recipient, mint};
use crate::engine::names::Life;
use crate::engine::role::rotating::{CurrentKey, Definition};
use crate::openrouter::Limits;

/// The key to make.
pub struct NextKey<'a> {
    /// The role, locked.
    pub guard: &'a RoleGuard<'a>,
    /// The life of the role.
    pub life: &'a Life,
    /// The role's definition.
    pub definition: &'a Definition,
    /// Its limits when it is made.
    pub limits: Limits,
    /// Its version.
    pub version: u64,
    /// Whether a person requested it, as opposed to the schedule.
    pub manual: bool,
    /// Its urgency.
    pub urgency: Urgency,
    /// Cancelled when the caller is gone; has no effect after the key is ordered.
    pub caller_gone: &'a CancellationToken,
}

impl NextKey<'_> {
    /// Makes the key, which is current from now on. It is lost unless it is stored before its intent is
    /// dropped. The intent must be deleted afterwards.
    ///
    /// # Errors
    /// Errors of [`mint`].
    pub async fn mint(self) -> Result<(CurrentKey, InFlight), Error> {
        let engine = self.guard.engine();
        let definition = self.definition;
        let policy = &definition.rotation;
        let order = Order {
            recipient: Recipient::Role(self.guard, self.version),
            life: self.life,
            place: definition.terms.place(),
            key_name: &definition.terms.key_name,
            limits: self.limits,
            grant: None,
            ceiling: definition.terms.ceiling(),
            guardrail: definition.terms.guardrail_id.as_ref(),
            creator_user_id: definition.terms.creator_user_id.as_deref(),
            lifetime: policy.lifetime(engine.now()),
            // If storage forgets that the key was current, it may be in use as long as a superseded key.
            in_use: policy.grace,
            urgency: self.urgency,
            caller_gone: self.caller_gone,
        };
        let ordered = engine.now();
        let minted = mint(engine, order).await?;
        let since = engine.now();
        let key = CurrentKey {
            hash: minted.created.key.hash,
            label: minted.created.key.label,
            secret: minted.created.secret,
            name: minted.name,
            version: self.version,
            connection: minted.place.connection,
            workspace_id: minted.place.workspace_id,
            address: minted.address,
            since,
            ordered: Some(ordered).filter(|ordered| *ordered < since),
            anchor: if self.manual {
                since
            } else {
                policy.schedule.anchor(since)
            },
            manual: self.manual,
            expires_at: minted.expires_at,
            limits: self.limits,
            limits_unproved: false,
            guardrail_id: definition.terms.guardrail_id.clone(),
            guardrail_unproved: false,
            promised_until: None,
            counted: false,
        };
        Ok((key, minted.in_flight))
    }
}
