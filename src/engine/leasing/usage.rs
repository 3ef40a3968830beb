//! What the leases of a dynamic role have spent. Living keys are read at OpenRouter, one request each; for
//! ended keys the final readings are stored.

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::ending::{read, spent};
use crate::engine::books::{Record, Wanted};
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::RoleName;
use crate::engine::role::Usage;
use crate::engine::role::budget::{Amount, Pool, Spans};
use crate::engine::role::dynamic::DynamicRole;
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
    /// What the key has spent in the window of the budget or the limit, in US dollars.
    spent: f64,
    /// When the lease ends; for an ended key, when its final reading is taken.
    until: Timestamp,
}

/// Reads what a role has spent: one request per key that is not deleted yet.
///
/// # Errors
/// Errors from OpenRouter or storage.
pub async fn usage(
    engine: &Engine,
    name: &RoleName,
    role: &DynamicRole,
) -> Result<LeasesUsage, Error> {
    let terms = &role.terms;
    let counting = terms.counting();
    let books = engine.books().await?;
    let pool = role.pool.as_ref();
    let is_counted = |record: &Record| {
        let nonce = &record.key.nonce;
        pool.is_some_and(|pool| pool.has_counted(nonce))
    };
    let records = books.leases.all();
    let records = records.filter(|record| record.key.role == *name && !is_counted(record));
    let readings: Vec<_> = records
        .map(|record| async move {
            let key = read(engine, &record).await?;
            let spent = key.map(|key| spent(&record, &key, counting));
            Ok::<_, Error>((record, spent))
        })
        .collect();
    let readings = stream::iter(readings).buffered(AT_A_TIME);
    let readings: Vec<(Record, Option<(Amount, Spans)>)> = readings.try_collect().await?;
    let now = engine.now();
    let tally = pool.map(Pool::tally);
    let of_living = || readings.iter().filter_map(|(_, spent)| *spent);
    let usage = Usage::of(terms, of_living().map(|(_, spans)| spans), tally, now);
    let in_window: Amount = of_living().map(|(spent, _)| spent).sum();
    let remaining = terms.budget.map(|budget| {
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
    let is_complete = readings.iter().all(|(_, spent)| spent.is_some());
    let keys = readings
        .into_iter()
        .filter_map(|(record, spent)| Some(shown(record, spent?.0)))
        .collect();
    Ok(LeasesUsage {
        usage,
        remaining,
        available,
        keys,
        // Without a budget, the spending of deleted keys is not counted.
        complete: is_complete
            && terms.budget.is_some()
            && tally.is_none_or(|tally| tally.is_complete()),
    })
}

fn shown(record: Record, spent: Amount) -> KeyUsage {
    let granted = record.granted.and_then(|limits| limits.limit);
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
        spent: spent.as_usd(),
        until: record.until,
    }
}

/// Keys read concurrently. More would only wait for their turns.
const AT_A_TIME: usize = 8;
