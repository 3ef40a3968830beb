//! The budgets of a key, as `GET /key` lists them and as enforcement checks them.
//!
//! The layers and their order are those of the Python SDK's `KeyBudget`: the workspace's default guardrail,
//! the member's guardrail, the key's guardrail, the workspace's budgets, the key's own limit.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::guardrails::Guardrail;
use crate::keys::Key;
use crate::limits::{LimitReset, rounded, usd};
use crate::spending::Seen;
use crate::state::AccountState;

/// The layer of a budget, in the order of enforcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the variants are OpenRouter's own words")]
pub enum BudgetScope {
    WorkspaceDefaultMember,
    WorkspaceDefaultKey,
    Member,
    ApiKey,
    Workspace,
    KeyLimit,
}

/// A budget and the spending that enforcement counts against it.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// The layer.
    pub scope: BudgetScope,
    /// US dollars for one window.
    pub limit_usd: f64,
    /// Spending in the current window that enforcement knows, in US dollars.
    pub spend_usd: f64,
    /// The window; `None` is forever.
    pub reset_interval: Option<LimitReset>,
    /// When the current window ends.
    pub resets_at: Option<Timestamp>,
    /// Whether spending through the owner's own provider keys counts.
    pub include_byok: bool,
    /// Which of the workspace's budgets it is.
    pub budget_id: Option<String>,
    /// Whose guardrail's budget it is.
    pub guardrail_id: Option<String>,
}

impl Budget {
    fn new(scope: BudgetScope, limit_usd: f64, reset: Option<LimitReset>, now: Timestamp) -> Self {
        Self {
            scope,
            limit_usd,
            spend_usd: 0.0,
            reset_interval: reset,
            resets_at: reset.map(|reset| reset.window_end(now)),
            include_byok: false,
            budget_id: None,
            guardrail_id: None,
        }
    }

    /// What is left; calls are rejected at zero or below.
    #[must_use]
    pub fn remaining_usd(&self) -> f64 {
        rounded(self.limit_usd - self.spend_usd)
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "scope": self.scope,
            "limit_usd": usd(self.limit_usd),
            "spend_usd": usd(self.spend_usd),
            "remaining_usd": usd(self.remaining_usd()),
            "reset_interval": self.reset_interval,
            "resets_at": self.resets_at.map(|instant| instant.to_string()),
            "include_byok": self.include_byok,
            "budget_id": self.budget_id,
            "guardrail_id": self.guardrail_id,
        })
    }
}

/// The first exhausted budget, in the order of enforcement.
pub(crate) fn exhausted(budgets: &[Budget]) -> Option<&Budget> {
    budgets.iter().find(|budget| budget.remaining_usd() <= 0.0)
}

/// The budget that rejects calls now; if there is none, the first one that would.
pub(crate) fn effective(budgets: &[Budget]) -> Option<&Budget> {
    let least = |a: &&Budget, b: &&Budget| a.remaining_usd().total_cmp(&b.remaining_usd());
    exhausted(budgets).or_else(|| budgets.iter().min_by(least))
}

impl AccountState {
    /// All budgets of a key, in the order of enforcement.
    pub(crate) fn budgets(&self, key: &Key, now: Timestamp, seen: Seen) -> Vec<Budget> {
        let own = [key];
        let members: Vec<&Key> = match self.member_of(key) {
            Some(member) => {
                let theirs = |other: &&Key| other.creator_user_id.as_deref() == Some(member);
                self.keys.iter().filter(theirs).collect()
            }
            None => Vec::new(),
        };
        let default = self.default_guardrail(&key.workspace_id);
        let guarded = |scope, guardrail: Option<&Guardrail>, keys: &[&Key]| {
            let guardrail = guardrail.filter(|_| !keys.is_empty())?;
            let mut budget =
                Budget::new(scope, guardrail.limit_usd?, guardrail.reset_interval, now);
            budget.include_byok = guardrail.include_byok_in_budgets;
            budget.guardrail_id = Some(guardrail.id.clone());
            Some(counting(budget, keys, now, seen))
        };
        let guardrails = [
            guarded(BudgetScope::WorkspaceDefaultMember, default, &members),
            guarded(BudgetScope::WorkspaceDefaultKey, default, &own),
            guarded(BudgetScope::Member, self.member_guardrail(key), &members),
            guarded(BudgetScope::ApiKey, self.key_guardrail(&key.hash), &own),
        ];
        let limit = key.limit.map(|limit| {
            let mut budget = Budget::new(BudgetScope::KeyLimit, limit, key.limit_reset, now);
            budget.include_byok = key.include_byok_in_limit;
            counting(budget, &own, now, seen)
        });
        let guardrails = guardrails.into_iter().flatten();
        guardrails
            .chain(self.workspace_budgets(&key.workspace_id, now, seen))
            .chain(limit)
            .collect()
    }

    fn workspace_budgets(&self, workspace_id: &str, now: Timestamp, seen: Seen) -> Vec<Budget> {
        let Some(workspace) = self.workspace(workspace_id) else {
            return Vec::new();
        };
        if workspace.budgets.is_empty() {
            return Vec::new();
        }
        let inside = |key: &&Key| key.workspace_id == workspace_id;
        let keys: Vec<&Key> = self.keys.iter().filter(inside).collect();
        let budgets = workspace.budgets.iter();
        budgets
            .map(|set| {
                let mut budget =
                    Budget::new(BudgetScope::Workspace, set.limit_usd, set.interval, now);
                budget.include_byok = workspace.include_byok_in_budgets;
                budget.budget_id = Some(set.id.clone());
                counting(budget, &keys, now, seen)
            })
            .collect()
    }
}

fn counting(mut budget: Budget, keys: &[&Key], now: Timestamp, seen: Seen) -> Budget {
    let spent = keys
        .iter()
        .map(|key| key.spent(budget.reset_interval, budget.include_byok, now, seen));
    budget.spend_usd = rounded(spent.sum());
    budget
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(scope: BudgetScope, limit_usd: f64, spend_usd: f64) -> Budget {
        Budget {
            spend_usd,
            ..Budget::new(scope, limit_usd, None, Timestamp::UNIX_EPOCH)
        }
    }

    #[test]
    fn the_effective_budget_is_the_first_that_is_spent_else_the_one_with_the_least_left() {
        let key = budget(BudgetScope::ApiKey, 10.0, 4.0);
        let workspace = budget(BudgetScope::Workspace, 100.0, 95.0);
        let limit = budget(BudgetScope::KeyLimit, 4.0, 4.0);
        let layers = [key.clone(), workspace.clone(), limit.clone()];
        assert_eq!(effective(&layers), Some(&limit));
        assert_eq!(
            effective(&[key.clone(), workspace.clone()]),
            Some(&workspace)
        );
        assert_eq!(exhausted(&[key, workspace]), None);
        assert_eq!(effective(&[]), None);
    }

    #[test]
    fn of_several_spent_budgets_the_first_in_order_refuses() {
        let key = budget(BudgetScope::ApiKey, 1.0, 1.0);
        let limit = budget(BudgetScope::KeyLimit, 1.0, 5.0);
        assert_eq!(effective(&[key.clone(), limit]), Some(&key));
    }
}
