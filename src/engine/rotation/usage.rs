//! What a rotating role's keys have spent. Living keys are read at OpenRouter, one request each; for ended
//! keys the final readings are stored.

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::engine::connection::{Turn, Urgency};
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::{ConnectionName, RoleName};
use crate::engine::role::budget::{Amount, Counting, Report, Tally};
use crate::engine::role::rotating::RotatingRole;
use crate::engine::role::{Role, Usage};
use crate::engine::spending;
use crate::openrouter::{self, Effective, KeyHash};

/// What a role has spent, in US dollars, at the time of the read.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RoleUsage {
    /// The fields that both kinds of role have.
    #[serde(flatten)]
    usage: Usage,
    /// What remains of the budget in its window, or of the current key's limit. Null if there is neither.
    remaining: Option<f64>,
    /// Whose limit blocks the requests of the current key; null if none does.
    limited_by: Option<String>,
    /// The living keys.
    keys: Vec<KeyUsage>,
    /// Whether the spending of every ended key is included.
    complete: bool,
}

/// What one living key has spent.
#[derive(Clone, Debug, Serialize, JsonSchema)]
struct KeyUsage {
    /// The key's hash: the SHA-256 of the key, by which OpenRouter's API identifies it.
    hash: KeyHash,
    /// The key's version: 1 is the role's first key.
    version: u64,
    /// The state of the key: `current`, `superseded` or `held`.
    state: &'static str,
    /// What the key may spend in total, in US dollars; null if it has no limit.
    granted: Option<f64>,
    /// What the key has spent in the window of the budget or the limit, in US dollars; with `cached`, null if
    /// there is no reading of it.
    spent: Option<f64>,
    /// When that was read.
    read_at: Option<Timestamp>,
}

/// Reads what a role has spent: one request per living key, or none if the last reports about the keys are
/// enough.
///
/// # Errors
/// Errors from OpenRouter or storage.
pub async fn usage(
    engine: &Engine,
    name: &RoleName,
    role: RotatingRole,
    cached: bool,
) -> Result<RoleUsage, Error> {
    let terms = &role.definition.terms;
    let counting = terms.counting();
    let (older, current) = match cached {
        true => last_reports(engine, name, &role),
        false => ask(engine, name, &role).await?,
    };
    // A key that was asked about and is gone is not shown.
    let is_shown = |report: &Option<Report>| cached || report.is_some();
    let mut keys: Vec<_> = role
        .superseded
        .iter()
        .zip(&older)
        .filter(|(_, report)| is_shown(report))
        .map(|(key, report)| {
            let state = if key.stage.is_held() {
                "held"
            } else {
                "superseded"
            };
            shown(&key.hash, key.version, state, report.as_ref(), counting)
        })
        .collect();
    // A teardown may have ended it.
    let is_over = role.has_counted(&role.current.hash);
    if !is_over && is_shown(&current) {
        let (hash, version) = (&role.current.hash, role.current.version);
        keys.push(shown(hash, version, "current", current.as_ref(), counting));
    }
    let now = engine.now();
    let uncounted = role.superseded.iter().zip(&older);
    // Spending that is already counted must not be added again.
    let uncounted = uncounted.filter(|(key, _)| !role.has_counted(&key.hash));
    let uncounted = uncounted.map(|(_, report)| report);
    let uncounted: Vec<_> = uncounted.chain((!is_over).then_some(&current)).collect();
    let is_complete = uncounted.iter().all(|report| report.is_some());
    let living: Vec<&Report> = uncounted.into_iter().flatten().collect();
    let tally = role.tally.as_ref();
    let read_at = living.iter().map(|report| report.at).min();
    let spans = living.iter().map(|report| report.spans(counting));
    let usage = Usage::of(terms, spans, tally, (read_at, now));
    let in_window: Amount = living
        .iter()
        .map(|report| report.reading(counting).spent)
        .sum();
    let remaining = match (terms.budget, &role.ledger) {
        (Some(_), Some(_)) if cached && !is_complete => None,
        (Some(budget), Some(ledger)) => {
            let spent = ledger.ended().plus(in_window);
            Some(budget.amount.minus(spent).as_usd())
        }
        _ => terms.limits.limit.and(current.as_ref()).map(|current| {
            let reading = current.reading(counting);
            reading.limit.minus(reading.spent).as_usd()
        }),
    };
    let result = RoleUsage {
        usage,
        remaining,
        limited_by: current
            .as_ref()
            .and_then(|current| current.effective.as_ref())
            .and_then(limited_by),
        keys,
        complete: is_complete && tally.is_some_and(Tally::is_complete),
    };
    if !cached {
        spending::check(engine, name, &Role::Rotating(Box::new(role)));
    }
    Ok(result)
}

fn shown(
    hash: &KeyHash,
    version: u64,
    state: &'static str,
    report: Option<&Report>,
    counting: Counting,
) -> KeyUsage {
    let reading = report.map(|report| report.reading(counting));
    KeyUsage {
        hash: hash.clone(),
        version,
        state,
        granted: reading
            .and_then(|reading| reading.limit.as_limit())
            .map(openrouter::Usd::as_f64),
        spent: reading.map(|reading| reading.spent.as_usd()),
        read_at: report.map(|report| report.at),
    }
}

/// The reports about the superseded keys, and about the current one: none if it has ended and is counted.
type Reports = (Vec<Option<Report>>, Option<Report>);

/// What OpenRouter last reported.
fn last_reports(engine: &Engine, name: &RoleName, role: &RotatingRole) -> Reports {
    let now = engine.now();
    let last = |hash| Some(engine.readings.of(name, hash)?.seen_at(now));
    let older = role.superseded.iter().map(|key| last(&key.hash));
    let current = Some(&role.current.hash).filter(|hash| !role.has_counted(hash));
    (older.collect(), current.and_then(last))
}

/// What it reports now.
async fn ask(engine: &Engine, name: &RoleName, role: &RotatingRole) -> Result<Reports, Error> {
    let older: Vec<_> = role
        .superseded
        .iter()
        .map(|key| read(engine, name, &key.connection, &key.hash))
        .collect();
    let older = stream::iter(older).buffered(CONCURRENCY);
    let older: Vec<Option<Report>> = older.try_collect().await?;
    let current = match role.has_counted(&role.current.hash) {
        true => None,
        false => read_current(engine, name, role).await?,
    };
    Ok((older, current))
}

/// In one line, whose limit blocks the current key's requests; `None` if none does.
fn limited_by(budget: &Effective) -> Option<String> {
    let whose = match budget.scope.as_str() {
        "key_limit" => "the limit of the current key",
        "api_key" => "the budget of the key's guardrail",
        "member" => "the budget of the member's guardrail",
        "workspace" => "the workspace's budget",
        "workspace_default_key" | "workspace_default_member" => {
            "the budget of the workspace's default guardrail"
        }
        other => other,
    };
    (budget.remaining_usd <= 0.0).then(|| {
        let until = budget
            .resets_at
            .map_or_else(String::new, |at| format!(", until {at}"));
        format!("{whose} is spent: {} US dollars{until}", budget.limit_usd)
    })
}

/// Reads the current key; `None` if it is gone.
async fn read_current(
    engine: &Engine,
    name: &RoleName,
    role: &RotatingRole,
) -> Result<Option<Report>, Error> {
    let key = &role.current;
    let link = engine.links.open(&*engine.storage, &key.connection).await?;
    let turn = link.client(Urgency::Ordinary).await;
    let itself = spending::ask_itself(engine, name, key, (&link, &turn)).await;
    if let Some(itself) = itself.map_err(while_reading)? {
        return Ok(Some(Report::of_bearer(&itself, engine.now())));
    }
    reported(engine, name, &turn, &key.hash).await
}

/// Reads a key; `None` if it is gone.
async fn read(
    engine: &Engine,
    role: &RoleName,
    connection: &ConnectionName,
    hash: &KeyHash,
) -> Result<Option<Report>, Error> {
    let link = engine.links.open(&*engine.storage, connection).await?;
    let turn = link.client(Urgency::Ordinary).await;
    reported(engine, role, &turn, hash).await
}

/// The report of the management key about a key; `None` if it is gone.
async fn reported(
    engine: &Engine,
    role: &RoleName,
    turn: &Turn,
    hash: &KeyHash,
) -> Result<Option<Report>, Error> {
    match turn.key(hash).await {
        Ok(key) => {
            spending::note(engine, role, &key);
            Ok(Some(Report::of_key(&key, engine.now())))
        }
        Err(openrouter::Error::NotFound { .. }) => Ok(None),
        Err(reason) => Err(while_reading(reason)),
    }
}

fn while_reading(reason: openrouter::Error) -> Error {
    Error::while_doing("what the role's keys have spent cannot be read")(reason)
}

/// Keys read concurrently. More would only wait for their turns.
const CONCURRENCY: usize = 8;
