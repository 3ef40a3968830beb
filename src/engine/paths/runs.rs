//! The paths `rotate-all/:connection`, `tidy/:connection` and `teardown`: jobs that take longer than a
//! request may. An update begins one, or joins it, and waits for a while; a read shows it, or the last one.

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
                "Read how far the rotation of every role is.",
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
            Endpoint::new(
                "List or remove the keys of this mount that nobody has.",
                tidy,
            )
            .takes([DRY_RUN])
            .answers::<TidyView<'_>>()
            .verb("start")
            .active_only(),
        )
        .on(
            Operation::Read,
            Endpoint::new("Read what was listed or removed.", read_tidy)
                .answers::<TidyView<'_>>()
                .active_only(),
        )
        .help(
            "Remove keys of this mount that nobody has.",
            TIDY_DESCRIPTION,
        );
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
            Endpoint::new("Read how far the teardown is.", read_teardown)
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
    "How long the old keys keep working this time. 0 is the emergency: every older key of the roles is\n\
     revoked, and so are the keys under leases of the connection's dynamic roles.",
)
.default("each role's own");

const DRY_RUN: Field = Field::switch(
    "dry_run",
    "true lists what would be removed. false removes exactly what the last dry run has listed.",
)
.default("true");

const ROTATE_ALL_DESCRIPTION: &str = "\
Gives every rotating role of the connection a new key, those with disable_automated_rotation too. The old
keys keep working for rotation_grace_period, by default each role's own. For a management key that
leaked, or a person who left, give rotation_grace_period=0: the run is over when no key is alive that is
older than the run, neither of a role nor under a lease, or when each that may be is named.

The rotation is a run. It does not depend on its caller, and after a failover the next node goes on with it.
An update begins one, or joins the one that is running, and answers within 45 seconds with how far it is; a
read shows it, or the last one. An update with rotation_grace_period=0 takes the place of a run that leaves
old keys alive.

state is running or finished. roles is how many there are, and rotated how many have a new key since
began_at. skipped names roles that are left as they are, and why: somebody has disabled the role's current
key at OpenRouter, or the role is being deleted. failed names roles, and hashes of leased keys, that are
not done, and why: while the run goes on they are tried again. Each names 100 at the most.";

const TIDY_DESCRIPTION: &str = "\
Removes keys that bear this mount's mark and that nobody has: neither a role nor a lease, and no order that
may be theirs is open. They are left behind by forget-role, and by a snapshot that was restored. A key
without this mount's mark is never touched.

Write with dry_run=true first, look at keys, and then write with dry_run=false: that removes exactly what
was listed, where it still belongs to nobody; kept says of the rest whose it is. A key with the mark of a
rotating role is not listed: the comparison with OpenRouter takes it in as superseded. refusal says why
nothing was listed: a role is unreadable, or another copy of this storage seems to be at work.

Either is a run: it does not depend on its caller, and after a failover the next node goes on with it. An
update begins one, or joins the one that is running, and answers within 45 seconds with how far it is; a
read shows it, or the last one. A dry run lists 1000 keys at the most, and more is how many there are
besides.";

const TEARDOWN_DESCRIPTION: &str = "\
Revokes every key of the mount: of roles, under leases, and whatever else bears its mark at OpenRouter. Do
this before `vault secrets disable`, which forgets the keys of roles without revoking them. Definitions
stay. From the beginning of the teardown on no key is handed out or created; a request for one is refused.

The teardown is a run. It does not depend on its caller, and after a failover the next node goes on with it.
An update begins it, or joins it, and answers within 45 seconds with how far it is; a read shows it. When
state is finished no key of the mount is alive, or left_alive names each that may be, by hash, by name where
the hash is unknown, or as the connection that cannot be listed, and why. While it is running, what
left_alive names is tried again. It names 100 at the most.

Delete cancels the teardown, whether it is finished or not: keys are handed out again, and each role whose
keys were revoked gets a new one, by itself where rotation is automated, else by `rotate-role`. All
operations need the sudo capability.";
