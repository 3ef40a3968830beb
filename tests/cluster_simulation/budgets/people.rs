//! Which roles have budgets, and operators who write and change them.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use openrouter_simulator::LimitReset;
use serde_json::{Value, json};

use crate::dice::Dice;
use crate::people::{DYNAMIC, ROTATING};
use crate::world::World;

/// The roles that will have budgets in a life, how often these reset, and when the life begins.
///
/// A life lasts for about sixteen hours. It begins in the morning, so that its last midnight comes when
/// everything is calm, or in the afternoon, so that midnight comes in the middle of everything.
pub(super) fn plan(dice: &Dice) -> (BTreeMap<&'static str, Option<LimitReset>>, Timestamp) {
    let noon: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
    if !dice.chance(SHARE) {
        return (BTreeMap::new(), noon);
    }
    let (daily, weekly, monthly) = (LimitReset::Daily, LimitReset::Weekly, LimitReset::Monthly);
    let reset = dice.weighted(&[
        (8, Some(daily)),
        (2, Some(weekly)),
        (2, Some(monthly)),
        (2, None),
    ]);
    let [app, man] = ROTATING;
    let mut plan = BTreeMap::new();
    for (role, chance) in [(app, 0.9), (man, 0.4), (DYNAMIC, 0.6)] {
        if dice.chance(chance) {
            plan.insert(role, reset);
        }
    }
    // Midnight begins a Saturday, a Monday, or the first of a month.
    let eve = match reset {
        Some(LimitReset::Weekly) => "2026-11-22",
        Some(LimitReset::Monthly) => "2026-11-30",
        _ => "2026-11-20",
    };
    let hour = match dice.chance(0.5) {
        true => dice.number(3, 8),
        false => dice.number(14, 21),
    };
    let eve: Timestamp = format!("{eve}T00:00:00Z").parse().unwrap();
    (plan, eve + SignedDuration::from_hours(hour.cast_signed()))
}

impl World {
    /// Turns the fields of a new role with a limit into those of one with a budget, if it is to have one.
    pub(crate) fn with_budget(&self, role: &str, body: &mut Value) {
        let Some(reset) = self.budgets.plan.get(role) else {
            return;
        };
        let fields = body.as_object_mut().unwrap();
        fields.remove("limit");
        fields.insert("budget".to_owned(), json!(self.dice.number(3, 6)));
        fields.insert(
            "budget_reset".to_owned(),
            json!(reset.map(LimitReset::as_str)),
        );
        if role == DYNAMIC {
            let limit = *self.dice.pick(&[0.5, 1.0, 2.0]);
            fields.insert("limit".to_owned(), json!(limit));
            fields.insert("max_leases".to_owned(), json!(8));
        }
    }

    /// Turns a change of a limit into one of the budget. Now and then it changes when the budget resets, or
    /// removes the budget.
    pub(crate) fn change_budget(&self, role: &str, body: &mut Value) {
        if !self.budgets.plan.contains_key(role) || body["limit"].is_null() {
            return;
        }
        if self.dice.chance(0.04) {
            return;
        }
        let fields = body.as_object_mut().unwrap();
        fields.remove("limit");
        fields.insert("budget".to_owned(), json!(self.dice.number(2, 9)));
        if self.dice.chance(0.06) {
            let reset = *self.dice.pick(&["daily", "weekly", "monthly"]);
            fields.insert("budget_reset".to_owned(), json!(reset));
        }
    }

    /// What a reader of a dynamic role asks for: now and then, less than the role allows.
    pub(crate) fn asked_for(&self, role: &str) -> Value {
        let is_pooled = role == DYNAMIC && self.budgets.plan.contains_key(role);
        match is_pooled && self.dice.chance(0.2) {
            true => json!({"limit": 0.3}),
            false => Value::Null,
        }
    }

    /// OpenRouter's reports about spending lag by any amount.
    pub(crate) fn change_lag(&self) {
        if self.budgets.are_there() {
            let lag = self.dice.number(0, 300);
            self.story.tell(format!("--- usage shows after {lag} s"));
            let billing = self.openrouter.simulator.billing();
            billing.change(|rules| rules.reporting_lag_seconds = lag);
        }
    }
}

/// How many lives have budgets.
const SHARE: f64 = 0.15;
