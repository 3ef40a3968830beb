//! A role's next key: ordered by the role's definition, and made into what the role's entry holds.
//! Called for the first key and for every later one; storing it is the caller's.

use tokio_util::sync::CancellationToken;

use crate::engine::books::InFlight;
use crate::engine::connection::Urgency;
use crate::engine::context::RoleGuard;
use crate::engine::error::Error;
use crate::engine::keys::{Order, Recipient, mint};
use crate::engine::names::Life;
use crate::engine::role::rotating::{CurrentKey, Definition};
use crate::openrouter::Limits;

/// The key that a role is to get next.
pub struct NextKey<'a> {
    /// For whom.
    pub guard: &'a RoleGuard<'a>,
    /// This life of the role.
    pub life: &'a Life,
    /// What the role asks for.
    pub definition: &'a Definition,
    /// What it may spend when it is made.
    pub limits: Limits,
    /// Which of the role's keys it will be.
    pub version: u64,
    /// Whether a person asked for it, rather than the schedule.
    pub manual: bool,
    /// Who it must not wait behind.
    pub urgency: Urgency,
    /// Cancelled when nobody waits for it any more; counts until it is ordered.
    pub caller_gone: &'a CancellationToken,
}

impl NextKey<'_> {
    /// Makes the key, current from now on. It is lost unless it is stored before its intent is
    /// dropped, which is to be struck out then.
    ///
    /// # Errors
    /// Those of [`mint`].
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
            // Should storage forget that it was current: as long as a superseded key works.
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
            unguarded: false,
            promised_until: None,
        };
        Ok((key, minted.in_flight))
    }
}
