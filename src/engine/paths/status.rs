//! The path `status`: the health of the mount on one screen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
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
            Endpoint::new("Read the health of the mount.", read).active_only(),
        )
        .help("The health of the mount in one answer.", DESCRIPTION)
}

async fn read(engine: Arc<Engine>, _: Call) -> Outcome {
    let health = health(&engine).await?;
    Ok(Some(Response::showing(&View::of(&health))?))
}

#[derive(Serialize)]
struct View<'a> {
    version: &'static str,
    working_since: Option<Timestamp>,
    last_reconciliation: Option<Timestamp>,
    two_copies: Option<CopiesView<'a>>,
    torn_down_since: Option<Timestamp>,
    connections: BTreeMap<&'a ConnectionName, ConnectionView<'a>>,
    roles: RolesView,
    attention: AttentionView<'a>,
    drift: DriftView<'a>,
    keys: KeysView,
    overdue: OverdueView<'a>,
}

#[derive(Serialize)]
struct ConnectionView<'a> {
    verified_at: Option<Timestamp>,
    management_key_expires_at: Option<Timestamp>,
    last_success: Option<Timestamp>,
    last_error_at: Option<Timestamp>,
    last_error: Option<&'a str>,
    last_reconciliation: Option<Timestamp>,
    stray_keys: usize,
}

#[derive(Serialize)]
struct CopiesView<'a> {
    since: Timestamp,
    keys: &'a BTreeSet<KeyHash>,
    message: String,
}

#[derive(Serialize)]
struct RolesView {
    rotating: usize,
    dynamic: usize,
    failed: usize,
    unreadable: usize,
}

#[derive(Serialize)]
struct AttentionView<'a> {
    count: usize,
    roles: &'a BTreeMap<RoleName, Vec<String>>,
}

#[derive(Serialize)]
struct DriftView<'a> {
    count: usize,
    newest: Vec<FindingView<'a>>,
}

#[derive(Serialize)]
struct FindingView<'a> {
    role: &'a RoleName,
    #[serde(flatten)]
    noted: &'a Noted,
}

#[derive(Serialize)]
struct KeysView {
    current: usize,
    superseded: usize,
    held: usize,
    leased: usize,
    pending: usize,
    lost: usize,
}

#[derive(Serialize)]
struct OverdueView<'a> {
    rotations: OverdueOf<'a>,
    revocations: OverdueOf<'a>,
}

#[derive(Serialize)]
struct OverdueOf<'a> {
    count: usize,
    since: Option<Timestamp>,
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
                count: roles.in_trouble,
                roles: &roles.troubles,
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
How the mount is doing, from memory: no request to OpenRouter, and nothing that takes longer the more idle
roles there are.

connections has, for each, when its management key was verified and when it expires, when OpenRouter
answered last, and what went wrong last since the plugin was started. roles counts them; attention names those that need a
person, up to 100, and says why. drift has what the comparisons with OpenRouter have found since the plugin was
started, the newest 100, of roles and of leases whose role is deleted too. keys counts the keys of the mount: current, superseded, held (disabled, and
deleted later), leased, pending (being created) and lost (ordered, and what came of that is unknown). overdue names the roles, up to 100, whose
rotation or revocation is due and not done, and since when.

working_since is when the engine had read every role after it began its work on this node; until then it
is null, and the counts are not complete. last_reconciliation is when storage was last compared with the
keys at OpenRouter: of each connection, and of the one for which that is longest ago. stray_keys counts the
keys that bear this mount's mark and belong to nobody. two_copies is not null while another copy of this
storage is at work. torn_down_since is when a teardown began that is in force: no key is handed out.";
