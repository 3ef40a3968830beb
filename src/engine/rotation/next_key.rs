//! A role's next key: ordered by the role's definition, and made into what the role's entry holds.
//! Called for the first key and for every later one; storing it is the caller's.

use crate::engine::books::{InFlight, Purpose};
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::keys::{Order, mint};
use crate::engine::names::RoleName;
use crate::engine::role::rotating::{CurrentKey, Definition};

/// The key that a role is to get next.
pub struct NextKey<'a> {
    /// For whom.
    pub role: &'a RoleName,
    /// What the role asks for.
    pub definition: &'a Definition,
    /// Which of the role's keys it will be.
    pub version: u64,
    /// Whether a person asked for it, rather than the schedule.
    pub manual: bool,
}

impl NextKey<'_> {
    /// Makes the key, current from now on. It is lost unless it is stored before its intent is
    /// dropped, which is to be struck out then.
    ///
    /// # Errors
    /// Those of [`mint`].
    pub async fn mint(self, engine: &Engine) -> Result<(CurrentKey, InFlight), Error> {
        let definition = self.definition;
        let policy = &definition.rotation;
        let order = Order {
            role: self.role,
            connection: &definition.terms.connection,
            key_name: &definition.terms.key_name,
            limits: definition.terms.limits,
            workspace_id: definition.terms.workspace_id.as_ref(),
            lifetime: policy.lifetime(engine.clock.now()),
            purpose: Purpose::Rotation {
                version: self.version,
            },
        };
        let minted = mint(engine, order).await?;
        let since = engine.clock.now();
        let key = CurrentKey {
            hash: minted.created.key.hash,
            label: minted.created.key.label,
            secret: minted.created.secret,
            name: minted.name,
            version: self.version,
            connection: definition.terms.connection.clone(),
            since,
            anchor: if self.manual {
                since
            } else {
                policy.schedule.anchor(since)
            },
            manual: self.manual,
            expires_at: minted.expires_at,
            limits: definition.terms.limits,
            promised_until: None,
        };
        Ok((key, minted.in_flight))
    }
}
