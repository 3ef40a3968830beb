//! The paths `rotate-all/:connection`, `tidy/:connection` and `teardown`: jobs that take longer than a
//! request may. An update starts a job, or joins the active one, and waits for a while. A read shows the
//! active job or the last one.

mod view;

use std::sync::Arc;

use super::keys::connection_of_path;
use crate::engine::context::Engine;
use crate::engine::names::RunId;
use crate::engine::runs::{Wanted, cancel_teardown, order, show};
use crate::framework::{Call, Endpoint, Field, Outcome, Path};
use crate::logical::Operation;
use view::{RotateAllView, TeardownView, TidyView, shown, warnings};

/// The three paths.
pub fn paths() -> Vec<Path<Engine>> {
    let rotate_all = Path::new("rotate-all/:connection", "rotate-all")
        .parameter("connection", "The connection's name.")
        .on(
            Operation::Update,
            Endpoint::new(
                "Replace the keys of every role of a connection.",
                rotate_all,
            )
            .takes([GRACE])
            .answers::<RotateAllView<'_>>()
            .verb("start")
            .active_only(),
        )
        .on(
            Operation::Read,
            Endpoint::new(
                "Read the progress of the rotation of every role.",
                read_rotate_all,
            )
            .answers::<RotateAllView<'_>>()
            .active_only(),
        )
        .help("Rotate every role of a connection.", ROTATE_ALL_DESCRIPTION);
    let tidy = Path::new("tidy/:connection", "tidy")
        .parameter("connection", "The connection's name.")
        .on(
            Operation::Update,
            Endpoint::new("List or remove stray keys of this mount.", tidy)
                .takes([DRY_RUN])
                .answers::<TidyView<'_>>()
                .verb("start")
                .active_only(),
        )
        .on(
            Operation::Read,
            Endpoint::new("Read the keys that were listed or removed.", read_tidy)
                .answers::<TidyView<'_>>()
                .active_only(),
        )
        .help("Remove stray keys of this mount.", TIDY_DESCRIPTION);
    let teardown = Path::new("teardown", "teardown")
        .on(
            Operation::Update,
            Endpoint::new("Revoke every key of the mount.", teardown)
                .answers::<TeardownView<'_>>()
                .verb("start")
                .active_only(),
        )
        .on(
            Operation::Read,
            Endpoint::new("Read the progress of the teardown.", read_teardown)
                .answers::<TeardownView<'_>>()
                .active_only(),
        )
        .on(
            Operation::Delete,
            Endpoint::new("Cancel the teardown.", cancel)
                .answers::<TeardownView<'_>>()
                .verb("cancel")
                .active_only(),
        )
        .help(
            "Revoke every key of the mount, before it is disabled.",
            TEARDOWN_DESCRIPTION,
        );
    vec![rotate_all, tidy, teardown]
}

async fn rotate_all(engine: Arc<Engine>, call: Call) -> Outcome {
    let connection = connection_of_path(&call.fields)?;
    let grace = call.fields.seconds("rotation_grace_period");
    begin(&engine, &call, Wanted::RotateAll(connection, grace)).await
}

async fn tidy(engine: Arc<Engine>, call: Call) -> Outcome {
    let connection = connection_of_path(&call.fields)?;
    let dry_run = call.fields.switch("dry_run").unwrap_or(true);
    begin(&engine, &call, Wanted::Tidy(connection, dry_run)).await
}

async fn teardown(engine: Arc<Engine>, call: Call) -> Outcome {
    begin(&engine, &call, Wanted::Teardown).await
}

async fn begin(engine: &Engine, call: &Call, wanted: Wanted) -> Outcome {
    let (run, warning) = order(engine, wanted, &call.request.caller_gone).await?;
    let shown = shown(&run)?;
    let warnings = warning.into_iter().chain(warnings(&run));
    Ok(Some(shown.with_warnings(warnings)))
}

async fn read_rotate_all(engine: Arc<Engine>, call: Call) -> Outcome {
    let connection = connection_of_path(&call.fields)?;
    read(&engine, &RunId::RotateAll(connection)).await
}

async fn read_tidy(engine: Arc<Engine>, call: Call) -> Outcome {
    let connection = connection_of_path(&call.fields)?;
    read(&engine, &RunId::Tidy(connection)).await
}

async fn read_teardown(engine: Arc<Engine>, _: Call) -> Outcome {
    read(&engine, &RunId::Teardown).await
}

async fn read(engine: &Engine, id: &RunId) -> Outcome {
    Ok(match show(engine, id).await? {
        None => None,
        Some(run) => Some(shown(&run)?.with_warnings(warnings(&run))),
    })
}

async fn cancel(engine: Arc<Engine>, _: Call) -> Outcome {
    let run = cancel_teardown(&engine).await?;
    Ok(Some(shown(&run)?))
}

const GRACE: Field = Field::duration(
    "rotation_grace_period",
    "How long the old keys keep working after this rotation. 0 is an emergency: every older key\n\
     of the roles is revoked or disabled, as by rotate-role, and so are the keys under leases of\n\
     the connection's dynamic roles.",
)
.default("each role's own");

const DRY_RUN: Field = Field::switch(
    "dry_run",
    "true lists what would be removed. false removes exactly what the last dry run listed.",
)
.default("true");

const ROTATE_ALL_DESCRIPTION: &str = "\
Gives every rotating role of the connection a new key, including roles with disable_automated_rotation.
The old keys keep working for rotation_grace_period, by default each role's own. If a management key has
leaked, or a person has left, set rotation_grace_period=0: the run finishes when no key of a role or
under a lease is alive that is older than the run, or when each key that may be alive is named.

The rotation is a run. It does not depend on its caller, and after a failover the next node continues
it. An update starts a run, or joins the active one, and returns its progress within 45 seconds. A read
shows the active run or the last one. An update with rotation_grace_period=0 replaces an active run that
leaves old keys alive.

state is running or finished. roles is the number of roles, and rotated the number of roles with a new
key since began_at. skipped names roles that are not changed, with the reasons: the role's current key
was disabled at OpenRouter, or the role is being deleted. failed names roles, and hashes of leased keys,
that are not done, with the reasons; while the run is active they are retried. Each names at most 100.";

const TIDY_DESCRIPTION: &str = "\
Removes keys that have this mount's mark but belong to neither a role nor a lease, and for which no
order is open. Such keys are left behind by forget-role, and by restoring a snapshot. A key without this
mount's mark is never touched.

Write with dry_run=true first and check keys. Then write with dry_run=false: that removes exactly the
listed keys that still have no owner; kept says why the others were kept. A key with the mark of a
rotating role is not listed: the reconciliation adds it to its role as a superseded key. refusal says
why nothing was listed: a role is unreadable, or another copy of this storage seems to be active.

Both are runs. They do not depend on their callers, and after a failover the next node continues them.
An update starts a run, or joins the active one, and returns its progress within 45 seconds. A read
shows the active run or the last one. A dry run lists at most 1000 keys; more is the number of others.";

const TEARDOWN_DESCRIPTION: &str = "\
Revokes every key of the mount: those of roles, those under leases, and all others with its mark at
OpenRouter. Do this before `vault secrets disable`, which removes roles without revoking their keys.
Definitions are kept. From the start of the teardown no key is handed out or created; requests for keys
are rejected.

The teardown is a run. It does not depend on its caller, and after a failover the next node continues
it. An update starts it, or joins it, and returns its progress within 45 seconds. A read shows it. When
state is finished, no key of the mount is alive, or left_alive names each key that may be, with the
reason: by hash, by name if the hash is unknown, or as a connection that cannot be listed. While it is
running, the keys in left_alive are retried. It names at most 100.

Delete cancels the teardown, whether it is finished or not: keys are handed out again, and each role
whose keys were revoked gets a new one, automatically or with `rotate-role`. All operations require the
sudo capability.";
