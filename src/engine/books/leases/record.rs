//! What is stored about a living lease.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::names::{ConnectionName, Nonce, Place, RoleName};
use crate::engine::role::Terms;
use crate::engine::role::budget::{Amount, Counting, Report, Spans};
use crate::engine::role::dynamic::DynamicRole;
use crate::openrouter::{GuardrailId, KeyHash, Limits, WorkspaceId};

/// A key under a lease: the data needed to end it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeasedKey {
    /// The end of the key's name, which also identifies the lease.
    pub nonce: Nonce,
    /// The role.
    pub role: RoleName,
    /// The connection through which the key was made.
    pub connection: ConnectionName,
    /// The hash that identifies the key at OpenRouter.
    pub key_hash: KeyHash,
}

/// Who asked for the key of a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Requester {
    /// The display name of the token.
    pub display_name: String,
    /// The identity entity of the token; empty if there is none.
    pub entity_id: String,
    /// The id of the request, as in the server's audit log.
    pub request_id: String,
    /// When the key was requested.
    pub at: Timestamp,
}

/// A lease that the server has, or is about to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The key.
    #[serde(flatten)]
    pub key: LeasedKey,
    /// The time until which the server may hold the lease.
    pub until: Timestamp,
    /// The key's workspace. `None` is the account's default workspace; in a record of the first format it is
    /// unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_id: Option<WorkspaceId>,
    /// The granted limits; `None` for leases of the first stored format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<Limits>,
    /// Whether the workspace was added to a record of the first format.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub placed: bool,
    /// The guardrail that the key is assigned to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guardrail_id: Option<GuardrailId>,
    /// Whether it is no longer proved that it has that guardrail: it was found without it, or OpenRouter
    /// refused to assign it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub guardrail_unproved: bool,
    /// Who requested the key; `None` for a record of the first format.
    #[serde(default)]
    pub requester: Option<Requester>,
    /// What the key takes out of the role's budget; `None` if it was made without a budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Amount>,
    /// Whether its final reading is to be taken without a budget.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tracked: bool,
    /// If it is to be counted: when the lease ended and its key was disabled. The key is still to be read and
    /// deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
}

impl Record {
    /// The place of the key.
    pub fn place(&self) -> Place {
        Place {
            connection: self.key.connection.clone(),
            workspace_id: self.workspace_id.clone(),
        }
    }

    /// Whether what the key has spent is to be counted when it ends.
    pub fn is_to_be_counted(&self) -> bool {
        self.grant.is_some() || self.tracked
    }

    /// What the key takes out of a budget: all there is if it was made without one.
    pub fn may_spend(&self) -> Amount {
        self.grant.unwrap_or(Amount::UNLIMITED)
    }

    /// What the key has spent in the budget's window, and in each span, by a report about it.
    pub fn spent(&self, report: &Report, counting: Counting) -> (Amount, Spans) {
        let spans = report.spans(counting);
        // The key's remaining limit shows what was spent only since the limit's own window began.
        let same = self
            .granted
            .is_some_and(|granted| granted.reset == counting.reset);
        let in_window = match same {
            true => report.reading(counting).spent,
            false => spans.within(counting.reset),
        };
        (in_window, spans)
    }

    /// The guardrail of these terms, if the key should have it and does not.
    pub fn lacks_guardrail_of<'a>(&self, terms: &'a Terms) -> Option<&'a GuardrailId> {
        let wanted = terms.guardrail_id.as_ref()?;
        let lacks = self.guardrail_id.as_ref() != Some(wanted) && self.is_at(terms);
        lacks.then_some(wanted)
    }

    /// The guardrail that the key is to be assigned to, if it is not proved to have it. The role is its own.
    /// `None` if the role has no guardrail.
    pub fn guardrail_to_assign(&self, role: &DynamicRole) -> Option<GuardrailId> {
        role.terms.guardrail_id.as_ref()?;
        let has = || {
            self.guardrail_id
                .as_ref()
                .filter(|_| self.is_unproved(role))
        };
        self.lacks_guardrail_of(&role.terms).or_else(has).cloned()
    }

    fn is_unproved(&self, role: &DynamicRole) -> bool {
        self.guardrail_unproved || (role.guardrails_unproved && self.is_at(&role.terms))
    }

    fn is_at(&self, terms: &Terms) -> bool {
        self.clone().placed_by(terms).place() == terms.place()
    }

    /// Adds the workspace to a record of the first format. The key is in the workspace of its role, which has
    /// these terms: this is stored before the role is moved.
    #[must_use]
    pub(super) fn placed_by(mut self, terms: &Terms) -> Self {
        if self.is_unplaced() && self.key.connection == terms.connection {
            self.workspace_id.clone_from(&terms.workspace_id);
            self.placed = true;
        }
        self
    }

    pub(super) fn is_unplaced(&self) -> bool {
        self.requester.is_none() && !self.placed
    }
}
