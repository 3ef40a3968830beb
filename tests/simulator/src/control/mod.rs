//! The fault script, inspection and changes behind the client's back over HTTP, for people and for
//! programs in other languages.
//!
//! Below `/simulator`, outside OpenRouter's API: it needs no key, meets no faults and is not logged.
//! The simulator listens on loopback addresses only. Secrets are not shown here. This file handles
//! requests and time; the other subjects have separate files.

mod accounts;
mod billing;
mod guardrails;
mod keys;
mod management_keys;
mod members;
mod workspaces;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::account::{Account, NotPossible};
use crate::requests::LoggedRequest;
use crate::script::{Rule, RuleStatus};
use crate::state::Shared;

type Refusal = (StatusCode, String);
type Answer = Result<Json<Value>, Refusal>;

/// The routes below `/simulator`.
pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/requests", get(requests).delete(reset_requests))
        .route("/keys", get(keys::list).post(keys::create))
        .route("/keys/{hash}", post(keys::change))
        .route("/management-keys", get(management_keys::list))
        .route("/management-keys/{hash}", post(management_keys::change))
        .route("/accounts", get(accounts::list).post(accounts::create))
        .route("/accounts/{number}", post(accounts::change))
        .route("/members", get(members::list).post(members::create))
        .route("/members/{id}", delete(members::deactivate))
        .route(
            "/workspaces",
            get(workspaces::list).post(workspaces::create),
        )
        .route(
            "/workspaces/{id}",
            post(workspaces::change).delete(workspaces::delete),
        )
        .route(
            "/guardrails",
            get(guardrails::list).post(guardrails::create),
        )
        .route(
            "/guardrails/{id}",
            post(guardrails::change).delete(guardrails::delete),
        )
        .route("/billing", get(billing::rules).post(billing::change))
        .route("/calls", get(billing::calls))
        .route("/calls/{number}/complete", post(billing::complete))
        .route("/clock", get(clock).post(move_clock))
        .route("/latency", post(set_latency))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockChange {
    set: Option<Timestamp>,
    #[serde(default)]
    advance_seconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LatencyChange {
    milliseconds: u64,
}

async fn faults(State(shared): State<Arc<Shared>>) -> Json<Vec<RuleStatus>> {
    Json(shared.faults.list())
}

async fn add_fault(State(shared): State<Arc<Shared>>, Json(rule): Json<Rule>) -> StatusCode {
    shared.faults.add(rule);
    StatusCode::CREATED
}

async fn clear_faults(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.faults.clear();
    StatusCode::NO_CONTENT
}

async fn requests(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let log = &shared.requests;
    let all: Vec<LoggedRequest> = log.all();
    Json(json!({
        "requests": all,
        "counts": log.counts(),
        "in_flight": log.in_flight(),
        "high_water_mark": log.high_water_mark(),
    }))
}

async fn reset_requests(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.requests.reset();
    StatusCode::NO_CONTENT
}

async fn clock(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({ "now": shared.clock.now() }))
}

async fn move_clock(
    State(shared): State<Arc<Shared>>,
    Json(change): Json<ClockChange>,
) -> Json<Value> {
    if let Some(instant) = change.set {
        shared.clock.set(instant);
    }
    shared
        .clock
        .advance(Duration::from_secs(change.advance_seconds));
    Json(json!({ "now": shared.clock.now() }))
}

async fn set_latency(
    State(shared): State<Arc<Shared>>,
    Json(change): Json<LatencyChange>,
) -> StatusCode {
    shared.set_latency(Duration::from_millis(change.milliseconds));
    StatusCode::NO_CONTENT
}

fn accounts(shared: &Arc<Shared>) -> Vec<Account> {
    let ids = shared.account_ids();
    ids.into_iter()
        .map(|id| Account::new(Arc::clone(shared), id))
        .collect()
}

/// The account with this number.
fn account(shared: &Arc<Shared>, number: usize) -> Result<Account, Refusal> {
    let mut accounts = accounts(shared).into_iter();
    let account = accounts.nth(number);
    account.ok_or_else(|| not_there("account"))
}

fn not_there(what: &str) -> Refusal {
    (StatusCode::NOT_FOUND, format!("there is no such {what}"))
}

fn refused(reason: NotPossible) -> Refusal {
    let status = match reason {
        NotPossible::NotThere => StatusCode::NOT_FOUND,
        _ => StatusCode::CONFLICT,
    };
    (status, reason.to_string())
}
