//! What the leases of a dynamic role have spent. Living keys are read at OpenRouter, one request each; for
//! ended keys the final readings are stored.

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::ending::read;
use crate::engine::books::{Record, Wanted};
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::RoleName;
use crate::engine::role::budget::{Amount, Counting, Pool, Report};
use crate::engine::role::dynamic::DynamicRole;
use crate::engine::role::{Role, Usage};
use crate::engine::spending;
use crate::openrouter::{KeyHash, Usd};

/// What a role has spent, in US dollars, at the time of the read.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct LeasesUsage {
    /// The fields that both kinds of role have.
    #[serde(flatten)]
    usage: Usage,
    /// What remains of the budget in its window. Null without a budget.
    remaining: Option<f64>,
    /// What new leases may take of the budget. Null without a budget.
    available: Option<f64>,
    /// The keys that are not deleted yet.
    keys: Vec<KeyUsage>,
    /// Whether the spending of every ended key is included.
    complete: bool,
}

/// What the key of one lease has spent.
#[derive(Clone, Debug, Serialize, JsonSchema)]
struct KeyUsage {
    /// The key's hash: the SHA-256 of the key, by which OpenRouter's API identifies it.
    hash: KeyHash,
    /// The state of the key: `leased`, or `ended` until its final reading.
    state: &'static str,
    /// What the key may spend in total, in US dollars; null if it has no limit.
    granted: Option<f64>,
    /// What the key has spent in the window of the budget or the limit, in US dollars; with `cached`, null if
    /// there is no reading of it.
    spent: Option<f64>,
    /// When that was read.
    read_at: Option<Timestamp>,
    /// When the lease ends; for an ended key, when its final reading is taken.
    until: Timestamp,
}

/// Reads what a role has spent: one request per key that is not deleted yet, or none if the last reports about
/// the keys are enough.
///
/// # Errors
/// Errors from OpenRouter or storage.
pub async fn usage(
    engine: &Engine,
    name: &RoleName,
    role: DynamicRole,
    cached: bool,
) -> Result<LeasesUsage, Error> {
    let terms = &role.terms;
    let counting = terms.counting();
    let books = engine.books().await?;
    let pool = role.pool.as_ref();
    let records = books.leases.uncounted(name, pool).into_iter();
    let readings: Vec<(Record, Option<Report>)> = match cached {
        true => records
            .map(|record| {
                let report = engine.readings.of(name, &record.key.key_hash);
                let report = report.map(|report| report.seen_at(engine.now()));
                (record, report)
            })
            .collect(),
        false => {
            let leases = &books.leases;
            let readings: Vec<_> = records
                .map(|record| async move {
                    let key = read(engine, leases, &record).await?;
                    let report = key.map(|key| Report::of_key(&key, engine.now()));
                    Ok::<_, Error>((record, report))
                })
                .collect();
            stream::iter(readings)
                .buffered(CONCURRENCY)
                .try_collect()
                .await?
        }
    };
    let now = engine.now();
    let tally = pool.map(Pool::tally);
    let of_living = || {
        readings.iter().filter_map(|(record, report)| {
            let report = report.as_ref()?;
            Some(record.spent(report, counting))
        })
    };
    let reports = readings.iter().filter_map(|(_, report)| report.as_ref());
    let oldest = reports.map(|report| report.at).min();
    // If there is no living key, what is stored is all there is.
    let read_at = oldest.or(readings.is_empty().then_some(now));
    let spans = of_living().map(|(_, spans)| spans);
    let usage = Usage::of(terms, spans, tally, (read_at, now));
    let is_complete = readings.iter().all(|(_, report)| report.is_some());
    let in_window: Amount = of_living().map(|(spent, _)| spent).sum();
    let remaining = terms.budget.filter(|_| is_complete || !cached);
    let remaining = remaining.map(|budget| {
        let ended = pool.map_or(Amount::ZERO, |pool| pool.ended(now));
        budget.amount.minus(ended.plus(in_window)).as_usd()
    });
    let available = terms.budget.as_ref().map(|budget| {
        let wanted = Wanted {
            role: name,
            amount: Amount::ZERO,
            budget,
            pool,
            now,
        };
        books.leases.left(&wanted, &books.intents).as_usd()
    });
    let complete =
        is_complete && terms.counts_ended_keys() && tally.is_none_or(|tally| tally.is_complete());
    let keys = readings
        .into_iter()
        // A key that was asked about and is gone is not shown.
        .filter(|(_, report)| cached || report.is_some())
        .map(|(record, report)| shown(record, report.as_ref(), counting))
        .collect();
    if !cached {
        spending::check(engine, name, &Role::Dynamic(Box::new(role)));
    }
    Ok(LeasesUsage {
        usage,
        remaining,
        available,
        keys,
        complete,
    })
}

fn shown(record: Record, report: Option<&Report>, counting: Counting) -> KeyUsage {
    let granted = record.granted.and_then(|limits| limits.limit);
    let spent = report.map(|report| record.spent(report, counting).0);
    KeyUsage {
        hash: record.key.key_hash,
        state: if record.ended.is_some() {
            "ended"
        } else {
            "leased"
        },
        granted: record
            .grant
            .and_then(Amount::as_limit)
            .or(granted)
            .map(Usd::as_f64),
        spent: spent.map(Amount::as_usd),
        read_at: report.map(|report| report.at),
        until: record.until,
    }
}

/// Keys read concurrently. More would only wait for their turns.
const CONCURRENCY: usize = 8;
