//! The path `usage/:name`: the spending of a role.

use std::sync::Arc;

use crate::engine::context::Engine;
use crate::engine::leasing;
use crate::engine::names::RoleName;
use crate::engine::role::Role;
use crate::engine::rotation;
use crate::framework::{Call, Endpoint, Field, Outcome, Path};
use crate::logical::{Operation, Response};

/// The path.
pub fn path() -> Path<Engine> {
    Path::new("usage/:name", "role-usage")
        .parameter("name", "The role's name.")
        .on(
            Operation::Read,
            Endpoint::new("Read what a role has spent.", read)
                .takes([CACHED])
                .answers::<rotation::RoleUsage>()
                .answers::<leasing::LeasesUsage>()
                .active_only(),
        )
        .help("Read the spending of a role.", DESCRIPTION)
}

async fn read(engine: Arc<Engine>, call: Call) -> Outcome {
    let name = RoleName::of_path(&call.fields)?;
    let cached = call.fields.switch("cached").unwrap_or(false);
    Ok(Some(match Role::require(&*engine.storage, &name).await? {
        Role::Rotating(role) => {
            let usage = rotation::usage(&engine, &name, *role, cached).await?;
            Response::showing(&usage)?
        }
        Role::Dynamic(role) => {
            let usage = leasing::usage(&engine, &name, *role, cached).await?;
            Response::showing(&usage)?
        }
    }))
}

const CACHED: Field = Field::switch(
    "cached",
    "Answer from the last readings, without a request to OpenRouter.",
)
.default("false");

const DESCRIPTION: &str = "\
Returns what the keys of a role have spent today (UTC), this week (from Monday), this month, and in
total, in US dollars: spent_day, spent_week, spent_month, spent_ever. Living keys are read at
OpenRouter, with one request each; for ended keys the stored final reading counts. remaining is what is
left of the role's budget, or of the current key's limit, and resets_at is when it resets. keys shows
the limit and the spending of each key that is not yet deleted. limited_by says whose limit blocks the
requests of the current key, if any: the key's own, its guardrail's, or the workspace's.

For a dynamic role, keys has the key of each lease, leased or ended; an ended key waits ten minutes for
its final reading. available is what new leases may take of the budget.

With cached=true nothing is requested from OpenRouter. The last readings of the living keys are used: of
the last reconciliation, of a rotation, or of a read of this path. read_at says when, for each key, and
at the top level for the oldest. They are kept in memory: after a restart a key has none until the first
reconciliation, and then spent is null and complete is false. For a role with neither a budget nor
track_usage, only the readings of the last read of this path are kept.

Final readings are stored for roles with a budget or track_usage, from the time in since. complete is
false if keys have ended without one, and for other roles.";
