//! The terms of the keys of both kinds of role, and how a write changes them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::error::Error;
use crate::engine::names::{ConnectionName, Place, RoleName};
use crate::engine::role::budget::{self, ALERT_PERCENT, Budget, Counting};
use crate::framework::{Field, Fields};
use crate::openrouter::{GuardrailId, LimitReset, Limits, Usd, WorkspaceId, WorkspaceRef};

/// The terms of a role's keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// The connection whose management key makes the keys.
    pub connection: ConnectionName,
    /// The beginning of the keys' names.
    pub key_name: String,
    /// The limits of each key.
    pub limits: Limits,
    /// The budget of all keys together; `None` if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// The percentage of the budget whose spending is reported; `None` is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_alert_percent: Option<u8>,
    /// Whether the spending of ended keys is to be read and stored even without a budget.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub track_usage: bool,
    /// The workspace of the keys; `None` is the account's default workspace.
    pub workspace_id: Option<WorkspaceId>,
    /// The slug or UUID of the workspace as it was written; `None` if it was written as `workspace_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// The name or UUID of the keys' guardrail as it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guardrail: Option<String>,
    /// The guardrail's UUID. It is unknown between a write and its [`pin`](crate::engine::keys::pin).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guardrail_id: Option<GuardrailId>,
    /// The user id of the member of the organization to whom the keys belong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creator_user_id: Option<String>,
    /// The operator's description.
    pub description: String,
}

impl Terms {
    /// The terms after a write to `before`. Fields that are not in the request are unchanged. Names of
    /// objects at OpenRouter are not resolved yet.
    ///
    /// # Errors
    /// [`Error::Invalid`], with the field and its valid values.
    pub fn apply(name: &RoleName, before: Option<&Self>, fields: &Fields) -> Result<Self, Error> {
        let budget = budget::apply(before.and_then(|b| b.budget), fields)?;
        let alert_percent = before.and_then(|b| b.budget_alert_percent);
        Ok(Self {
            connection: match fields.text("connection") {
                Some(connection) => ConnectionName::parse(connection)?,
                None => before.map(|b| b.connection.clone()).unwrap_or_default(),
            },
            key_name: match (fields.text("key_name"), before) {
                (Some(text), _) => key_name(text)?,
                (None, Some(before)) => before.key_name.clone(),
                (None, None) => name.to_string().chars().take(LONGEST_KEY_NAME).collect(),
            },
            limits: limits(before.map(|b| b.limits), fields)?,
            budget,
            budget_alert_percent: budget::alert_percent(alert_percent, budget, fields)?,
            track_usage: fields
                .switch("track_usage")
                .unwrap_or_else(|| before.is_some_and(|b| b.track_usage)),
            workspace_id: workspace_id(before, fields)?,
            workspace: match fields.text("workspace") {
                Some(text) => Some(workspace(text)?),
                None if fields.has("workspace") || fields.has("workspace_id") => None,
                None => before.and_then(|b| b.workspace.clone()),
            },
            guardrail: match fields.text("guardrail") {
                Some(text) => Some(text.to_owned()),
                None if fields.is_null("guardrail") => None,
                None => before.and_then(|b| b.guardrail.clone()),
            },
            guardrail_id: before
                .filter(|_| !fields.has("guardrail"))
                .and_then(|b| b.guardrail_id.clone()),
            creator_user_id: match fields.text("creator_user_id") {
                Some(id) => Some(id.trim().to_owned()),
                None if fields.is_null("creator_user_id") => None,
                None => before.and_then(|b| b.creator_user_id.clone()),
            },
            description: match fields.text("description") {
                Some(text) => text.to_owned(),
                None => before.map(|b| b.description.clone()).unwrap_or_default(),
            },
        })
    }

    /// The budget, and how OpenRouter must count spending.
    pub fn budget(&self) -> Option<(Budget, Counting)> {
        let budget = self.budget?;
        Some((budget, budget.counting(self.limits.include_byok)))
    }

    /// The budget, and the percentage of it whose spending is reported.
    pub fn watched(&self) -> Option<(Budget, u8)> {
        let percent = self.budget_alert_percent.unwrap_or(ALERT_PERCENT);
        Some((self.budget?, percent))
    }

    /// Whether the final reading of each key is taken and stored: always with a budget.
    pub fn counts_ended_keys(&self) -> bool {
        self.budget.is_some() || self.track_usage
    }

    /// How spending is counted: as for the budget, or else as for the key's own limit.
    pub fn counting(&self) -> Counting {
        Counting {
            reset: self.budget.map_or(self.limits.reset, |budget| budget.reset),
            include_byok: self.limits.include_byok,
        }
    }

    /// The highest limit that a key may ever have; `None` if it is unlimited. With a budget it is the budget: a
    /// rotating role's key may have all of it. On a dynamic role a key has at most `limit`, but the budget
    /// counts here too.
    pub fn ceiling(&self) -> Option<Usd> {
        match self.budget {
            Some(budget) => budget.amount.as_limit(),
            None => self.limits.limit,
        }
    }

    /// The place of the next key.
    pub fn place(&self) -> Place {
        Place {
            connection: self.connection.clone(),
            workspace_id: self.workspace_id.clone(),
        }
    }

    /// Rejects contradictory terms.
    ///
    /// # Errors
    /// [`Error::Invalid`], with the field and its valid values.
    pub fn check(&self) -> Result<(), Error> {
        if self.limits.reset.is_some() && self.limits.limit.is_none() {
            return Err(Error::invalid("limit_reset needs a limit to reset"));
        }
        Ok(())
    }

    /// The terms as a read of the role shows them.
    pub fn view(&self) -> TermsView<'_> {
        TermsView {
            connection: &self.connection,
            key_name: &self.key_name,
            limit: self.limits.limit,
            limit_reset: self.limits.reset,
            include_byok_in_limit: self.limits.include_byok,
            budget: self.budget.map(|budget| budget.amount.as_usd()),
            budget_reset: self.budget.and_then(|budget| budget.reset),
            budget_alert_percent: self.watched().map(|(_, percent)| percent),
            track_usage: self.track_usage,
            workspace: self.workspace.as_deref(),
            workspace_id: self.workspace_id.as_ref(),
            guardrail: self.guardrail.as_deref(),
            guardrail_id: self.guardrail_id.as_ref(),
            creator_user_id: self.creator_user_id.as_deref(),
            description: &self.description,
        }
    }
}

/// See [`Terms::view`].
#[derive(Serialize, JsonSchema)]
pub struct TermsView<'a> {
    /// The connection whose management key makes the keys.
    connection: &'a ConnectionName,
    /// The beginning of the keys' names.
    key_name: &'a str,
    /// The limit of each key, in US dollars; null if there is none.
    limit: Option<Usd>,
    /// When the limit resets; null if it does not.
    limit_reset: Option<LimitReset>,
    /// Whether spending through the account's own provider keys counts.
    include_byok_in_limit: bool,
    /// The workspace as it was written: a slug or a UUID.
    workspace: Option<&'a str>,
    /// The limit of all keys together, in US dollars. Absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<f64>,
    /// When the budget resets. Absent if it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_reset: Option<LimitReset>,
    /// The percentage of the budget whose spending is reported. Absent without a budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_alert_percent: Option<u8>,
    /// Whether the spending of ended keys is read and stored even without a budget.
    track_usage: bool,
    /// The UUID of the workspace; null for the account's default workspace.
    workspace_id: Option<&'a WorkspaceId>,
    /// The guardrail as it was written: a name or a UUID.
    guardrail: Option<&'a str>,
    /// The UUID of the guardrail.
    guardrail_id: Option<&'a GuardrailId>,
    /// The member of the organization that the keys belong to.
    creator_user_id: Option<&'a str>,
    /// The operator's description.
    description: &'a str,
}

/// The UUID, if the request contains it; that of a slug is resolved later. A request that writes back the
/// result of a read contains both.
fn workspace_id(before: Option<&Terms>, fields: &Fields) -> Result<Option<WorkspaceId>, Error> {
    let parsed = |id: &str| {
        let id = WorkspaceId::parse(id);
        id.map_err(|reason| Error::Invalid(format!("workspace_id: {reason}")))
    };
    let given = fields.text("workspace_id").map(parsed).transpose()?;
    match fields.text("workspace") {
        Some(text) => match (WorkspaceId::parse(text).ok(), given) {
            (Some(one), Some(other)) if one != other => Err(Error::invalid(
                "only one of workspace and workspace_id can be given, or both of the same workspace",
            )),
            (one, other) => Ok(one.or(other)),
        },
        None if given.is_some() => Ok(given),
        None if fields.has("workspace") || fields.has("workspace_id") => Ok(None),
        None => Ok(before.and_then(|b| b.workspace_id.clone())),
    }
}

fn workspace(text: &str) -> Result<String, Error> {
    let called = WorkspaceRef::parse(text);
    called.map_err(|reason| Error::Invalid(format!("workspace: {reason}")))?;
    Ok(text.to_owned())
}

fn key_name(text: &str) -> Result<String, Error> {
    let text = text.trim();
    if (1..=LONGEST_KEY_NAME).contains(&text.chars().count()) {
        Ok(text.to_owned())
    } else {
        Err(Error::invalid("key_name must have 1 to 100 characters"))
    }
}

fn limits(before: Option<Limits>, fields: &Fields) -> Result<Limits, Error> {
    let before = before.unwrap_or_default();
    let limit = match fields.number("limit") {
        Some(amount) => Some(Usd::positive(amount).map_err(|_| {
            Error::invalid("limit must be more than 0 US dollars, or empty for no limit")
        })?),
        None if fields.is_null("limit") => None,
        None => before.limit,
    };
    let reset = match fields.text("limit_reset") {
        Some(text) => Some(text.parse::<LimitReset>()?),
        // Removing a limit removes its reset.
        None if fields.is_null("limit_reset") || limit.is_none() => None,
        None => before.reset,
    };
    Ok(Limits {
        limit,
        reset,
        include_byok: fields
            .switch("include_byok_in_limit")
            .unwrap_or(before.include_byok),
    })
}

/// The fields of a write.
pub const FIELDS: &[Field] = &[
    Field::text(
        "connection",
        "The connection through which the keys are created.",
    )
    .default("default"),
    Field::text(
        "key_name",
        "The name of the keys at OpenRouter, 1 to 100 characters. The date and a unique mark are\n\
         appended. On a dynamic role, {{display_name}} and {{entity_name}} are replaced with\n\
         those of the requester.",
    )
    .default("the role's name"),
    Field::number(
        "limit",
        "How much each key may spend, in US dollars. Must be more than 0. An empty value means no\n\
         limit. Every rotation and every lease of a dynamic role starts a new key with the full\n\
         limit.",
    )
    .nullable(),
    Field::text(
        "limit_reset",
        "When the limit resets, at 00:00 UTC. An empty value means never.",
    )
    .one_of(&["daily", "weekly", "monthly"])
    .nullable(),
    Field::switch(
        "include_byok_in_limit",
        "Whether spending through the account's own provider keys counts toward the limit.",
    )
    .default("false"),
    Field::text(
        "workspace",
        "The workspace in which the keys are created, as a slug or UUID. It is resolved when the\n\
         role is written. An empty value means the account's default workspace. A change takes\n\
         effect with the next key.",
    )
    .nullable(),
    Field::text(
        "workspace_id",
        "The workspace as a UUID, which is not verified. An empty value means the account's\n\
         default workspace.",
    )
    .nullable(),
    Field::text(
        "guardrail",
        "The guardrail of the keys, as an exact name or UUID, in their workspace. A key is not\n\
         handed out before it is assigned to it. A change applies to living keys at once;\n\
         together with another connection or workspace it applies from the next key. An empty\n\
         value means no guardrail for new keys; living keys keep theirs.",
    )
    .nullable(),
    Field::text(
        "creator_user_id",
        "The member of an organization to whom the keys belong, as a user id. An empty value\n\
         means no member. A change takes effect with the next key.",
    )
    .nullable(),
    Field::text("description", "A description, shown on read."),
];

/// Maximum length of `key_name`, in characters.
pub const LONGEST_KEY_NAME: usize = 100;

#[cfg(test)]
mod tests;
