//! The path `status`: an overview of the mount's health.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::engine::books::{Condition, Noted, Overdue, Summary, in_words};
use crate::engine::context::Engine;
use crate::engine::custody::{MountHealth, OtherKeys, expiry, health};
use crate::engine::names::{ConnectionName, RoleName};
use crate::framework::{Call, Endpoint, Outcome, Path};
use crate::logical::{Operation, Response};
use crate::openrouter::KeyHash;

/// The path.
pub fn path() -> Path<Engine> {
    Path::new("status", "status")
        .on(
            Operation::Read,
            Endpoint::new("Read the health of the mount.", read)
                .answers::<View<'_>>()
                .active_only(),
        )
        .help("Read an overview of the mount's health.", DESCRIPTION)
}

async fn read(engine: Arc<Engine>, _: Call) -> Outcome {
    let health = health(&engine).await?;
    Ok(Some(Response::showing(&View::of(&health))?))
}

#[derive(Serialize, JsonSchema)]
struct View<'a> {
    /// The version of the plugin.
    version: &'static str,
    /// When the engine had read every role after it began its work on this node; null until then.
    working_since: Option<Timestamp>,
    /// When the keys of every connection had last been compared with OpenRouter.
    last_reconciliation: Option<Timestamp>,
    /// Set while another copy of this storage makes keys.
    two_copies: Option<CopiesView<'a>>,
    /// When the mount was torn down; null if it is in service.
    torn_down_since: Option<Timestamp>,
    /// The connections, by name.
    connections: BTreeMap<&'a ConnectionName, ConnectionView<'a>>,
    /// How many roles there are.
    roles: RolesView,
    /// Roles that need attention.
    attention: AttentionView<'a>,
    /// The last findings of the comparisons with OpenRouter.
    drift: DriftView<'a>,
    /// How many keys there are.
    keys: KeysView,
    /// The rotations and revocations that are overdue.
    overdue: OverdueView<'a>,
}

#[derive(Serialize, JsonSchema)]
struct ConnectionView<'a> {
    /// When the management key was verified.
    verified_at: Option<Timestamp>,
    /// When the management key expires; null if it does not.
    management_key_expires_at: Option<Timestamp>,
    /// When OpenRouter last answered successfully.
    last_success: Option<Timestamp>,
    /// When a request last failed.
    last_error_at: Option<Timestamp>,
    /// The last error.
    last_error: Option<&'a str>,
    /// When the last complete comparison of the keys with OpenRouter began.
    last_reconciliation: Option<Timestamp>,
    /// How many stray keys there are.
    stray_keys: usize,
}

#[derive(Serialize, JsonSchema)]
struct CopiesView<'a> {
    /// When this was first found.
    since: Timestamp,
    /// The hashes of some of the other copy's keys.
    keys: &'a BTreeSet<KeyHash>,
    /// What was found, in one sentence.
    message: String,
}

#[derive(Serialize, JsonSchema)]
struct RolesView {
    /// Rotating roles.
    rotating: usize,
    /// Dynamic roles.
    dynamic: usize,
    /// Rotating roles whose last rotation failed.
    failed: usize,
    /// Roles whose stored entry cannot be read.
    unreadable: usize,
}

#[derive(Serialize, JsonSchema)]
struct AttentionView<'a> {
    /// How many roles need attention.
    count: usize,
    /// The first 100 of them, with the reasons.
    roles: &'a BTreeMap<RoleName, Vec<String>>,
}

#[derive(Serialize, JsonSchema)]
struct DriftView<'a> {
    /// How many findings there are.
    count: usize,
    /// The newest of them, oldest first.
    newest: Vec<FindingView<'a>>,
}

#[derive(Serialize, JsonSchema)]
struct FindingView<'a> {
    /// The role.
    role: &'a RoleName,
    #[serde(flatten)]
    noted: &'a Noted,
}

#[derive(Serialize, JsonSchema)]
struct KeysView {
    /// Current keys.
    current: usize,
    /// Superseded keys in their grace period.
    superseded: usize,
    /// Superseded keys that are disabled and not yet deleted.
    held: usize,
    /// Keys under leases of dynamic roles.
    leased: usize,
    /// Keys that are being created.
    pending: usize,
    /// Keys that were ordered and whose outcome is unknown.
    lost: usize,
}

#[derive(Serialize, JsonSchema)]
struct OverdueView<'a> {
    /// Overdue rotations.
    rotations: OverdueOf<'a>,
    /// Overdue revocations.
    revocations: OverdueOf<'a>,
}

#[derive(Serialize, JsonSchema)]
struct OverdueOf<'a> {
    /// How many are overdue.
    count: usize,
    /// Since when the oldest is overdue.
    since: Option<Timestamp>,
    /// The first 100 of the roles.
    roles: &'a [RoleName],
}

impl<'a> View<'a> {
    fn of(health: &'a MountHealth) -> Self {
        let roles = &health.roles;
        let connections = health.connections.iter().map(|(name, connection)| {
            let heartbeats = &connection.heartbeats;
            let view = ConnectionView {
                verified_at: connection.proof.as_ref().map(|proof| proof.verified_at),
                management_key_expires_at: expiry(connection),
                last_success: heartbeats.last_success,
                last_error_at: heartbeats.last_error.map(|(at, _)| at),
                last_error: match &connection.unreadable {
                    Some(reason) => Some(reason),
                    None => heartbeats.last_error.map(|(_, what)| what),
                },
                last_reconciliation: connection.compared,
                stray_keys: connection.strays,
            };
            (name, view)
        });
        Self {
            version: env!("CARGO_PKG_VERSION"),
            working_since: roles.complete_since,
            last_reconciliation: health.compared(),
            two_copies: health.copies.as_ref().map(|copies| CopiesView {
                since: copies.since,
                keys: &copies.keys,
                message: in_words(copies),
            }),
            torn_down_since: health.torn_down_since,
            connections: connections.collect(),
            roles: RolesView::of(roles),
            attention: AttentionView {
                count: roles.with_problems,
                roles: &roles.problems,
            },
            drift: DriftView {
                count: health.findings_count,
                newest: health
                    .findings
                    .iter()
                    .map(|(role, noted)| FindingView { role, noted })
                    .collect(),
            },
            keys: KeysView::of(roles, health.keys),
            overdue: OverdueView {
                rotations: OverdueOf::of(&roles.overdue_rotations),
                revocations: OverdueOf::of(&roles.overdue_revocations),
            },
        }
    }
}

impl RolesView {
    fn of(roles: &Summary) -> Self {
        let count = |condition| roles.by_condition.get(&condition).copied().unwrap_or(0);
        let failed = count(Condition::Failed);
        Self {
            rotating: count(Condition::Well) + failed,
            dynamic: count(Condition::Dynamic),
            failed,
            unreadable: count(Condition::Unreadable),
        }
    }
}

impl KeysView {
    fn of(roles: &Summary, others: OtherKeys) -> Self {
        Self {
            current: roles.current_keys,
            superseded: roles.superseded_keys,
            held: roles.held_keys,
            leased: others.leased,
            pending: others.pending,
            lost: others.lost,
        }
    }
}

impl<'a> OverdueOf<'a> {
    fn of(overdue: &'a Overdue) -> Self {
        Self {
            count: overdue.count,
            since: overdue.since,
            roles: &overdue.roles,
        }
    }
}

const DESCRIPTION: &str = "\
Returns the health of the mount from memory. It makes no request to OpenRouter, and its cost does not
grow with the number of idle roles.

connections shows, for each connection, when its management key was verified and when it expires, when
OpenRouter last answered, and the last error since the plugin was started. roles counts the roles.
attention names the roles that need attention, up to 100, with the reasons. drift shows the newest 100
findings of the comparisons with OpenRouter since the plugin was started, including those of leases
whose role is deleted. keys counts the keys of the mount: current, superseded, held (disabled, to be
deleted later), leased, pending (being created) and lost (ordered, with an unknown outcome). overdue
names the roles, up to 100, whose rotation or revocation is overdue, and since when.

working_since is when the engine had read every role after it began its work on this node. Until then it
is null, and the counts are incomplete. last_reconciliation is when storage was last compared with the
keys at OpenRouter, for each connection; at the top level it is the oldest of these. stray_keys counts
the keys that have this mount's mark and no owner. two_copies is set while another copy of this
storage is active. torn_down_since is when the teardown began that is in force: no key is handed out.";
