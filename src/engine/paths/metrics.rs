//! The path `metrics`: the content of `status` and the engine's counters, as Prometheus text.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::engine::books::Overdue;
use crate::engine::context::Engine;
use crate::engine::custody::{MountHealth, expiry, health};
use crate::engine::meters::PREFIX;
use crate::framework::{Call, Endpoint, Outcome, Path};
use crate::logical::{Error, Operation, Response};

/// The path.
pub fn path() -> Path<Engine> {
    Path::new("metrics", "metrics")
        .on(
            Operation::Read,
            Endpoint::new("Read the metrics of the mount, as Prometheus text.", read)
                .answers_text(CONTENT_TYPE)
                .active_only(),
        )
        .help("The metrics of the mount, for Prometheus.", DESCRIPTION)
}

async fn read(engine: Arc<Engine>, _: Call) -> Outcome {
    let health = health(&engine).await?;
    let mut text = String::new();
    write(&mut text, &engine, &health).map_err(|reason| Error::internal(reason.to_string()))?;
    Ok(Some(Response::raw(CONTENT_TYPE, &text)))
}

fn write(text: &mut String, engine: &Engine, health: &MountHealth) -> fmt::Result {
    engine.meters.write(text)?;
    encode_registry(text, &gauges(health))?;
    encode_eof(text)
}

/// The current values.
fn gauges(health: &MountHealth) -> Registry {
    let mut gauges = Gauges(Registry::with_prefix(PREFIX));
    let roles = &health.roles;
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    gauges.count("build_info", "The version of the plugin", [(version, 1)]);
    let is_ready = usize::from(roles.complete_since.is_some());
    gauges.count(
        "ready",
        "Whether every role was read since the engine began its work on this node",
        [(NONE, is_ready)],
    );
    let by_condition = roles.by_condition.iter().map(|(condition, count)| {
        let labels = [("kind", condition.kind()), ("status", condition.status())];
        (labels, *count)
    });
    gauges.count("roles", "Roles, by kind and rotation status", by_condition);
    gauges.count(
        "roles_needing_attention",
        "Roles that need attention; status names them",
        [(NONE, roles.with_problems)],
    );
    let alerts = roles.alerts.iter();
    let alerts = alerts.map(|(level, count)| ([("level", level.as_str())], *count));
    gauges.count(
        "budget_alerts",
        "Roles whose budget is nearly spent, or spent; status names them",
        alerts,
    );
    let keys = [
        ("current", roles.current_keys),
        ("superseded", roles.superseded_keys),
        ("held", roles.held_keys),
        ("leased", health.keys.leased),
        ("pending", health.keys.pending),
        ("lost", health.keys.lost),
    ];
    let keys = keys.map(|(kind, count)| ([("kind", kind)], count));
    gauges.count("keys", "Keys of the mount, by kind", keys);
    let overdue = [
        ("rotation", &roles.overdue_rotations),
        ("revocation", &roles.overdue_revocations),
    ];
    gauges.count(
        "overdue",
        "Roles whose rotation or revocation is due and not done",
        overdue.map(|(what, overdue)| ([("what", what)], overdue.count)),
    );
    gauges.time(
        "overdue_since",
        "Since when the first of them is overdue; absent if there is none",
        overdue.map(|(what, Overdue { since, .. })| ([("what", what)], *since)),
    );
    gauges.time(
        "last_reconciliation",
        "When storage was last compared with the keys at OpenRouter",
        [(NONE, health.compared())],
    );
    gauges.count(
        "two_copies",
        "Whether another copy of this storage is active",
        [(NONE, usize::from(health.copies.is_some()))],
    );
    let strays = health.connections.iter();
    let strays = strays.map(|(name, health)| ([("connection", name.to_string())], health.strays));
    gauges.count(
        "stray_keys",
        "Stray keys: keys with the mark of this mount and no owner, by connection",
        strays,
    );
    of_connections(&mut gauges, health);
    gauges.0
}

fn of_connections(gauges: &mut Gauges, health: &MountHealth) {
    type Times<'a> = (&'a str, &'a str, Vec<Option<Timestamp>>);
    let connections = || health.connections.values();
    let times: [Times<'_>; 4] = [
        (
            "management_key_expiry",
            "When the management key of a connection expires; absent if it does not",
            connections().map(expiry).collect(),
        ),
        (
            "connection_verified",
            "When the management key of a connection was verified",
            connections()
                .map(|connection| Some(connection.proof.as_ref()?.verified_at))
                .collect(),
        ),
        (
            "connection_last_success",
            "When OpenRouter last answered over a connection",
            connections()
                .map(|connection| connection.heartbeats.last_success)
                .collect(),
        ),
        (
            "connection_last_error",
            "When a request over a connection last failed",
            connections()
                .map(|connection| Some(connection.heartbeats.last_error?.0))
                .collect(),
        ),
    ];
    let names: Vec<String> = health.connections.keys().map(ToString::to_string).collect();
    for (name, help, values) in times {
        let labelled = names.iter().map(|name| [("connection", name.clone())]);
        gauges.time(name, help, labelled.zip(values));
    }
}

const NONE: [(&str, &str); 0] = [];

struct Gauges(Registry);

impl Gauges {
    fn count<L: Labels>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, usize)>,
    ) {
        let family = Family::<L, Gauge>::default();
        for (labels, value) in values {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            family.get_or_create(&labels).set(value);
        }
        self.0.register(name, help, family);
    }

    /// In seconds since 1970. Missing times are omitted.
    fn time<L: Labels>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, Option<Timestamp>)>,
    ) {
        let family = Family::<L, Gauge<f64, AtomicU64>>::default();
        for (labels, value) in values {
            if let Some(at) = value {
                family
                    .get_or_create(&labels)
                    .set(at.as_duration().as_secs_f64());
            }
        }
        let name = format!("{name}_timestamp");
        self.0.register_with_unit(name, help, Unit::Seconds, family);
    }
}

/// The labels of a family.
trait Labels:
    prometheus_client::encoding::EncodeLabelSet
    + Clone
    + std::hash::Hash
    + Eq
    + fmt::Debug
    + Send
    + Sync
    + 'static
{
}

impl<const N: usize> Labels for [(&'static str, &'static str); N] {}
impl Labels for [(&'static str, String); 1] {}

/// The content type that Prometheus' own clients use.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const DESCRIPTION: &str = "\
Returns the content of `status`, and counters since the process was started, in the text format of
Prometheus: rotations and reasons for failures, revocations, recoveries, requests to OpenRouter by
outcome and their durations, and reads of keys by kind. A scrape makes no request to OpenRouter and
reads no role.

Let Prometheus scrape `/v1/<mount>/metrics` with a token that may only read this path. All names begin
with vault_openrouter. Counters start at zero with the plugin's process, and are those of the active
node.";
