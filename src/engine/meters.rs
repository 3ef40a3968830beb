//! The engine's own counters, for Prometheus. They are kept in memory and start at zero with the process.
//! Label values are few and fixed.
//!
//! The counters for reads of keys are resolved in advance, so that a read costs one atomic increment and
//! nothing else.

use std::time::Duration;

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

type Label = (&'static str, &'static str);
type By<const N: usize> = Family<[Label; N], Counter>;

/// All counters of a mount.
pub struct Meters {
    /// Reads of a rotating role's key under a lease.
    pub reads_leased: Counter,
    /// Reads of a rotating role's key without a lease.
    pub reads_static: Counter,
    /// Reads of a dynamic role, which create a key.
    pub reads_dynamic: Counter,
    rotations: By<1>,
    rotation_failures: By<1>,
    revocations: By<1>,
    revocation_failures: By<1>,
    holds: Counter,
    drifts: By<1>,
    late_uses: Counter,
    recoveries: By<1>,
    requests: By<2>,
    durations: Family<[Label; 1], Histogram>,
    registry: Registry,
}

impl Default for Meters {
    fn default() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let reads = registered(
            &mut registry,
            "reads",
            "Keys that were read, by kind of read",
        );
        let read = |kind| reads.get_or_create_owned(&[("kind", kind)]);
        let durations = Family::new_with_constructor(latencies as fn() -> Histogram);
        registry.register_with_unit(
            "request_duration",
            "How long OpenRouter took to answer, by method",
            Unit::Seconds,
            durations.clone(),
        );
        let recoveries: By<1> = registered(
            &mut registry,
            "recoveries",
            "Orders whose unknown outcome was resolved, by outcome",
        );
        // Rare events are registered from the beginning, so that the first one shows as an increase.
        for outcome in ["deleted", "in_service", "never_created"] {
            recoveries.get_or_create(&[("outcome", outcome)]).inc_by(0);
        }
        Self {
            reads_leased: read("leased"),
            reads_static: read("static"),
            reads_dynamic: read("dynamic"),
            rotations: registered(
                &mut registry,
                "rotations",
                "Keys of rotating roles that were replaced, by trigger",
            ),
            rotation_failures: registered(
                &mut registry,
                "rotation_failures",
                "Rotations that failed, by reason",
            ),
            revocations: registered(
                &mut registry,
                "revocations",
                "Keys that were revoked at OpenRouter, by reason",
            ),
            revocation_failures: registered(
                &mut registry,
                "revocation_failures",
                "Keys that could not be revoked or disabled at OpenRouter, by reason",
            ),
            holds: one(
                &mut registry,
                "holds",
                "Keys that were disabled, to be deleted later",
            ),
            drifts: registered(
                &mut registry,
                "drift",
                "Findings of the comparisons with OpenRouter, by kind",
            ),
            late_uses: one(
                &mut registry,
                "late_uses",
                "Superseded keys that were used after every lease on them had expired",
            ),
            recoveries,
            requests: registered(
                &mut registry,
                "requests",
                "Requests to OpenRouter, by method and outcome",
            ),
            durations,
            registry,
        }
    }
}

fn registered<const N: usize>(registry: &mut Registry, name: &str, help: &str) -> By<N> {
    let family = By::default();
    registry.register(name, help, family.clone());
    family
}

fn one(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

fn latencies() -> Histogram {
    Histogram::new(LATENCIES)
}

impl Meters {
    /// A role has a new key.
    pub fn rotated(&self, trigger: &'static str) {
        self.rotations.get_or_create(&[("trigger", trigger)]).inc();
    }

    /// A rotation failed.
    pub fn rotation_failed(&self, reason: &'static str) {
        let failures = &self.rotation_failures;
        failures.get_or_create(&[("reason", reason)]).inc();
    }

    /// A key was revoked.
    pub fn revoked(&self, why: &'static str) {
        self.revocations.get_or_create(&[("why", why)]).inc();
    }

    /// A key could not be revoked or disabled.
    pub fn revocation_failed(&self, reason: &'static str) {
        let failures = &self.revocation_failures;
        failures.get_or_create(&[("reason", reason)]).inc();
    }

    /// A key was disabled, to be deleted later.
    pub fn held(&self) {
        self.holds.inc();
    }

    /// A comparison with OpenRouter found drift.
    pub fn drifted(&self, drift: &'static str) {
        self.drifts.get_or_create(&[("drift", drift)]).inc();
    }

    /// A superseded key was used after every lease on it had expired.
    pub fn used_late(&self) {
        self.late_uses.inc();
    }

    /// The outcome of an order became known.
    pub fn recovered(&self, outcome: &'static str) {
        self.recoveries.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// A request to OpenRouter finished.
    pub fn requested(&self, method: &'static str, outcome: &'static str, took: Duration) {
        let labels = [("method", method), ("outcome", outcome)];
        self.requests.get_or_create(&labels).inc();
        let durations = self.durations.get_or_create(&[("method", method)]);
        durations.observe(took.as_secs_f64());
    }

    /// Writes all counters as Prometheus text, without the end marker.
    ///
    /// # Errors
    /// None, if `text` is a string.
    pub fn write(&self, text: &mut String) -> std::fmt::Result {
        encode_registry(text, &self.registry)
    }
}

/// The prefix of every name.
pub const PREFIX: &str = "vault_openrouter";

/// In seconds. A request ends after a minute at the latest.
const LATENCIES: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_written_in_prometheus_form() {
        let meters = Meters::default();
        meters.reads_static.inc();
        meters.rotated("schedule");
        meters.rotated("schedule");
        meters.revoked("grace_over");
        meters.revocation_failed("unreachable");
        meters.rotation_failed("refused");
        meters.recovered("deleted");
        meters.held();
        meters.drifted("key_renamed");
        meters.requested("GET", "success", Duration::from_millis(300));
        let mut text = String::new();
        meters.write(&mut text).unwrap();
        for line in [
            "# TYPE vault_openrouter_rotations counter",
            "vault_openrouter_rotations_total{trigger=\"schedule\"} 2",
            "vault_openrouter_reads_total{kind=\"static\"} 1",
            "vault_openrouter_reads_total{kind=\"dynamic\"} 0",
            "vault_openrouter_revocations_total{why=\"grace_over\"} 1",
            "vault_openrouter_revocation_failures_total{reason=\"unreachable\"} 1",
            "vault_openrouter_rotation_failures_total{reason=\"refused\"} 1",
            "vault_openrouter_recoveries_total{outcome=\"deleted\"} 1",
            "vault_openrouter_recoveries_total{outcome=\"in_service\"} 0",
            "vault_openrouter_holds_total 1",
            "vault_openrouter_late_uses_total 0",
            "vault_openrouter_drift_total{drift=\"key_renamed\"} 1",
            "vault_openrouter_requests_total{method=\"GET\",outcome=\"success\"} 1",
            "vault_openrouter_request_duration_seconds_bucket{le=\"0.25\",method=\"GET\"} 0",
            "vault_openrouter_request_duration_seconds_bucket{le=\"0.5\",method=\"GET\"} 1",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
    }
}
