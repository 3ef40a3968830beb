//! What a rotating role's keys have spent. Living keys are read at OpenRouter, one request each; for ended
//! keys the final readings are stored.

use futures::{StreamExt, TryStreamExt, stream};
use schemars::JsonSchema;
use serde::Serialize;

use crate::engine::connection::Urgency;
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::ConnectionName;
use crate::engine::role::Usage;
use crate::engine::role::budget::{Amount, Counting, Spans, Tally, of_bearer, of_key};
use crate::engine::role::rotating::RotatingRole;
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
    /// What the key has spent in the window of the budget or the limit, in US dollars.
    spent: f64,
}

/// A reading of a key.
struct Read {
    spent: Amount,
    spans: Spans,
    limit: Amount,
    effective: Option<Effective>,
}

/// Reads what a role has spent: one request per living key.
///
/// # Errors
/// Errors from OpenRouter or storage.
pub async fn usage(engine: &Engine, role: &RotatingRole) -> Result<RoleUsage, Error> {
    let terms = &role.definition.terms;
    let counting = terms.counting();
    let of_older: Vec<_> = role
        .superseded
        .iter()
        .map(|key| read(engine, &key.connection, &key.hash, counting))
        .collect();
    let older = stream::iter(of_older).buffered(AT_A_TIME);
    let older: Vec<Option<Read>> = older.try_collect().await?;
    let current = read_current(engine, role, counting).await?;
    let is_complete = older.iter().all(Option::is_some);
    let mut keys: Vec<_> = role
        .superseded
        .iter()
        .zip(&older)
        .filter_map(|(key, read)| {
            let state = if key.stage.is_held() {
                "held"
            } else {
                "superseded"
            };
            Some(shown(&key.hash, key.version, state, read.as_ref()?))
        })
        .collect();
    keys.push(shown(
        &role.current.hash,
        role.current.version,
        "current",
        &current,
    ));
    let now = engine.now();
    let living: Vec<_> = older.iter().flatten().chain([&current]).collect();
    let tally = role.tally.as_ref();
    let usage = Usage::of(terms, living.iter().map(|read| read.spans), tally, now);
    let in_window: Amount = living.iter().map(|read| read.spent).sum();
    let remaining = match (terms.budget, &role.ledger) {
        (Some(budget), Some(ledger)) => {
            let spent = ledger.ended().plus(in_window);
            Some(budget.amount.minus(spent).as_usd())
        }
        _ => terms
            .limits
            .limit
            .map(|_| current.limit.minus(current.spent).as_usd()),
    };
    Ok(RoleUsage {
        usage,
        remaining,
        limited_by: current.effective.as_ref().and_then(limited_by),
        keys,
        // Without a budget, the spending of deleted keys is not counted.
        complete: is_complete && tally.is_some_and(Tally::is_complete),
    })
}

fn shown(hash: &KeyHash, version: u64, state: &'static str, read: &Read) -> KeyUsage {
    KeyUsage {
        hash: hash.clone(),
        version,
        state,
        granted: read.limit.as_limit().map(openrouter::Usd::as_f64),
        spent: read.spent.as_usd(),
    }
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

async fn read_current(
    engine: &Engine,
    role: &RotatingRole,
    counting: Counting,
) -> Result<Read, Error> {
    let key = &role.current;
    let link = engine.links.open(&*engine.storage, &key.connection).await?;
    if link.address().may_see_keys_of(&key.address) {
        let turn = link.client(Urgency::Ordinary).await;
        let itself = turn.current_key(&key.secret).await.map_err(while_reading)?;
        let (reading, _) = of_bearer(&itself, counting);
        return Ok(Read {
            spent: reading.spent,
            spans: Spans::of(&itself.usage, counting),
            limit: reading.limit,
            effective: itself.effective,
        });
    }
    let read = read(engine, &key.connection, &key.hash, counting).await?;
    read.ok_or_else(|| {
        Error::Unusable(format!(
            "the current key {} is gone at OpenRouter",
            key.hash
        ))
    })
}

/// Reads a key; `None` if it is gone.
async fn read(
    engine: &Engine,
    connection: &ConnectionName,
    hash: &KeyHash,
    counting: Counting,
) -> Result<Option<Read>, Error> {
    let link = engine.links.open(&*engine.storage, connection).await?;
    match link.client(Urgency::Ordinary).await.key(hash).await {
        Ok(key) => {
            let reading = of_key(&key, counting);
            Ok(Some(Read {
                spent: reading.spent,
                spans: Spans::of(&key.usage, counting),
                limit: reading.limit,
                effective: None,
            }))
        }
        Err(openrouter::Error::NotFound { .. }) => Ok(None),
        Err(reason) => Err(while_reading(reason)),
    }
}

fn while_reading(reason: openrouter::Error) -> Error {
    Error::while_doing("what the role's keys have spent cannot be read")(reason)
}

/// Keys read concurrently. More would only wait for their turns.
const AT_A_TIME: usize = 8;
