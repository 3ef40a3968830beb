//! The spending of both kinds of role, as `usage/:name` shows it.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::budget::{Spans, Tally, Window};
use super::terms::Terms;
use crate::openrouter::{LimitReset, Usd};

/// What a role may spend, and what it has spent in each time span, at the time of the read.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Usage {
    /// The role's budget, in US dollars; null if it has none.
    budget: Option<f64>,
    /// When the budget resets; null if it does not.
    budget_reset: Option<LimitReset>,
    /// The limit of each key, in US dollars; null if there is none.
    limit: Option<f64>,
    /// When the limit resets; null if it does not.
    limit_reset: Option<LimitReset>,
    /// What the role's keys have spent today (UTC), in US dollars.
    spent_day: f64,
    /// The same for this week, from Monday.
    spent_week: f64,
    /// The same for this month.
    spent_month: f64,
    /// The same since the role was created.
    spent_ever: f64,
    /// When the budget or the limit next resets; null if it does not.
    resets_at: Option<Timestamp>,
    /// The time since which the spending of ended keys is recorded.
    since: Option<Timestamp>,
    /// When OpenRouter was asked; with `cached`, the oldest of the readings. Null if there is none.
    read_at: Option<Timestamp>,
}

impl Usage {
    /// The usage of a role with these terms, from the spending of its living keys, read at `read_at`, and the
    /// tally of ended ones.
    pub fn of(
        terms: &Terms,
        living: impl Iterator<Item = Spans>,
        tally: Option<&Tally>,
        (read_at, now): (Option<Timestamp>, Timestamp),
    ) -> Self {
        let ended = tally.map_or_else(Spans::default, |tally| tally.at(now));
        let spans = living.fold(ended, Spans::plus);
        Self {
            budget: terms.budget.map(|budget| budget.amount.as_usd()),
            budget_reset: terms.budget.and_then(|budget| budget.reset),
            limit: terms.limits.limit.map(Usd::as_f64),
            limit_reset: terms.limits.reset,
            spent_day: spans.day.as_usd(),
            spent_week: spans.week.as_usd(),
            spent_month: spans.month.as_usd(),
            spent_ever: spans.ever.as_usd(),
            resets_at: Window::at(terms.counting().reset, now).end(),
            since: tally.map(Tally::since),
            read_at,
        }
    }
}
