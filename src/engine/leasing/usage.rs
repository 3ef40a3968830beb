//! What the leases of a dynamic role have spent: living ones by OpenRouter's word, one request each, and
//! ended ones by the final readings that were stored.

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::Serialize;

use super::ending::{read, spent};
use crate::engine::books::{Record, Wanted};
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::RoleName;
use crate::engine::role::budget::{Amount, Counting, Pool, Spans, Window};
use crate::engine::role::dynamic::DynamicRole;
use crate::openrouter::{KeyHash, LimitReset, Usd};

/// What a role has spent, in US dollars, when it was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct LeasesUsage {
    budget: Option<f64>,
    budget_reset: Option<LimitReset>,
    limit: Option<f64>,
    limit_reset: Option<LimitReset>,
    spent_day: f64,
    spent_week: f64,
    spent_month: f64,
    spent_ever: f64,
    /// Of the budget, in its window.
    remaining: Option<f64>,
    /// Of the budget: what leases may take that come next.
    available: Option<f64>,
    resets_at: Option<Timestamp>,
    keys: Vec<KeyUsage>,
    complete: bool,
    since: Option<Timestamp>,
    read_at: Timestamp,
}

/// What the key of one lease has spent.
#[derive(Clone, Debug, Serialize)]
struct KeyUsage {
    hash: KeyHash,
    state: &'static str,
    granted: Option<f64>,
    spent: f64,
    until: Timestamp,
}

/// Reads what a role has spent: one request for each key that is not deleted.
///
/// # Errors
/// OpenRouter's and storage's.
pub async fn usage(
    engine: &Engine,
    name: &RoleName,
    role: &DynamicRole,
) -> Result<LeasesUsage, Error> {
    let terms = &role.terms;
    let counting = terms.budget().map_or(
        Counting {
            reset: terms.limits.reset,
            include_byok: terms.limits.include_byok,
        },
        |(_, counting)| counting,
    );
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
    let ended = tally.map_or_else(Spans::default, |tally| tally.at(now));
    let spans = of_living().map(|(_, spans)| spans).fold(ended, Spans::plus);
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
        budget: terms.budget.map(|budget| budget.amount.as_usd()),
        budget_reset: terms.budget.and_then(|budget| budget.reset),
        limit: terms.limits.limit.map(Usd::as_f64),
        limit_reset: terms.limits.reset,
        spent_day: spans.day.as_usd(),
        spent_week: spans.week.as_usd(),
        spent_month: spans.month.as_usd(),
        spent_ever: spans.ever.as_usd(),
        remaining,
        available,
        resets_at: Window::at(counting.reset, now).end(),
        keys,
        // What the keys of a role without a budget have spent that are gone, nobody has counted.
        complete: is_complete
            && terms.budget.is_some()
            && tally.is_none_or(|tally| tally.is_complete()),
        since: tally.map(|tally| tally.since()),
        read_at: now,
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

/// Keys at a time: more would wait for their turns anyway.
const AT_A_TIME: usize = 8;
