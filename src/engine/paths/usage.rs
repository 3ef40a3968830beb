//! The path `usage/:name`: what a role has spent.

use std::sync::Arc;

use crate::engine::context::Engine;
use crate::engine::leasing;
use crate::engine::names::RoleName;
use crate::engine::role::Role;
use crate::engine::rotation;
use crate::framework::{Call, Endpoint, Outcome, Path};
use crate::logical::{Operation, Response};

/// The path.
pub fn path() -> Path<Engine> {
    Path::new("usage/:name", "role-usage")
        .parameter("name", "The role's name.")
        .on(
            Operation::Read,
            Endpoint::new("Read what a role has spent.", read)
                .answers::<rotation::RoleUsage>()
                .answers::<leasing::LeasesUsage>()
                .active_only(),
        )
        .help("See what a role has spent.", DESCRIPTION)
}

async fn read(engine: Arc<Engine>, call: Call) -> Outcome {
    let name = RoleName::of_path(&call.fields)?;
    Ok(Some(match Role::require(&*engine.storage, &name).await? {
        Role::Rotating(role) => Response::showing(&rotation::usage(&engine, &role).await?)?,
        Role::Dynamic(role) => {
            let usage = leasing::usage(&engine, &name, &role).await?;
            Response::showing(&usage)?
        }
    }))
}

const DESCRIPTION: &str = "\
Returns in US dollars what the keys of a role have spent in this UTC day, this week (from
Monday), this month, and ever: spent_day, spent_week, spent_month, spent_ever. Living keys count by
OpenRouter's word, which costs one request for each; ended ones by the final reading that was stored.

remaining is what is left of the role's budget, or of the current key's limit, and resets_at when it
starts anew. keys has what each living key was granted and has spent. limited_by says whose limit
refuses the current key's calls, if one does: the key's own, its guardrail's, or the workspace's.

Of a dynamic role: keys has the key of each lease, leased or ended; an ended one waits ten minutes for
its final reading. available is what the next leases may take of the budget.

Final readings are stored for roles with a budget, since the time in since. complete is false where
keys have ended without one, and for roles without a budget.";
