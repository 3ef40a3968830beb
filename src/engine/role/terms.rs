//! What a role of either kind asks for each of its keys, and how a write changes it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::error::Error;
use crate::engine::names::{ConnectionName, Place, RoleName};
use crate::engine::role::budget::{self, Budget, Counting};
use crate::framework::{Field, Fields};
use crate::openrouter::{GuardrailId, LimitReset, Limits, Usd, WorkspaceId, WorkspaceRef};

/// The terms of a role's keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// With whose management key the keys are made.
    pub connection: ConnectionName,
    /// What the keys' names begin with.
    pub key_name: String,
    /// What each key may spend.
    pub limits: Limits,
    /// What all keys may spend together; `None` is without such a bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// Where the keys are made; `None` is the account's default workspace.
    pub workspace_id: Option<WorkspaceId>,
    /// By what slug or UUID that was written; `None` if it was written as `workspace_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// By what name or UUID the guardrail was written that the keys are held to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guardrail: Option<String>,
    /// Which guardrail that is. Not known between a write and its [`pin`](crate::engine::keys::pin).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guardrail_id: Option<GuardrailId>,
    /// Whom the keys belong to in an organization, by user id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creator_user_id: Option<String>,
    /// The operator's words.
    pub description: String,
}

impl Terms {
    /// The terms that a write makes of `before`: what it does not name stays. What it calls by a name of
    /// OpenRouter's is still to be looked up there.
    ///
    /// # Errors
    /// [`Error::Invalid`], with the field and what it allows.
    pub fn apply(name: &RoleName, before: Option<&Self>, fields: &Fields) -> Result<Self, Error> {
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
            budget: budget::apply(before.and_then(|b| b.budget), fields)?,
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

    /// The budget, and how OpenRouter is to count what is spent of it.
    pub fn budget(&self) -> Option<(Budget, Counting)> {
        let budget = self.budget?;
        Some((budget, budget.counting(self.limits.include_byok)))
    }

    /// How what a key spends is counted: as for the budget, or else as for the key's own limit.
    pub fn counting(&self) -> Counting {
        Counting {
            reset: self.budget.map_or(self.limits.reset, |budget| budget.reset),
            include_byok: self.limits.include_byok,
        }
    }

    /// The most that a key may ever be allowed to spend; `None` is without such a bound. Under a budget
    /// that is the budget: a key that is alone has all of it.
    pub fn ceiling(&self) -> Option<Usd> {
        match self.budget {
            Some(budget) => budget.amount.as_limit(),
            None => self.limits.limit,
        }
    }

    /// Where the next key is made.
    pub fn place(&self) -> Place {
        Place {
            connection: self.connection.clone(),
            workspace_id: self.workspace_id.clone(),
        }
    }

    /// Refuses what contradicts itself.
    ///
    /// # Errors
    /// [`Error::Invalid`], with the field and what it allows.
    pub fn check(&self) -> Result<(), Error> {
        if self.limits.reset.is_some() && self.limits.limit.is_none() {
            return Err(Error::invalid("limit_reset needs a limit to reset"));
        }
        Ok(())
    }

    /// What a read of the role shows of them.
    pub fn view(&self) -> TermsView<'_> {
        TermsView {
            connection: &self.connection,
            key_name: &self.key_name,
            limit: self.limits.limit,
            limit_reset: self.limits.reset,
            include_byok_in_limit: self.limits.include_byok,
            budget: self.budget.map(|budget| budget.amount.as_usd()),
            budget_reset: self.budget.and_then(|budget| budget.reset),
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
    /// What the names of the keys begin with.
    key_name: &'a str,
    /// The limit of each key, in US dollars; null if there is none.
    limit: Option<Usd>,
    /// When the limit starts anew; null if it does not.
    limit_reset: Option<LimitReset>,
    /// Whether spending through the account's own provider keys counts.
    include_byok_in_limit: bool,
    /// The workspace as it was written: a slug or a UUID.
    workspace: Option<&'a str>,
    /// The limit of all keys together, in US dollars. Absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<f64>,
    /// When the budget starts anew. Absent if it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_reset: Option<LimitReset>,
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

/// The UUID as far as the write tells it: that of a slug is still to be looked up. Whoever writes back
/// what a read has shown names both.
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
        // A limit that is taken away takes its reset with it.
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

/// What a write takes.
pub const FIELDS: &[Field] = &[
    Field::text("connection", "The connection that the keys are made with.").default("default"),
    Field::text(
        "key_name",
        "What the keys are called at OpenRouter, 1 to 100 characters. The day and a unique mark\n\
         follow it. A dynamic role fills in {{display_name}} and {{entity_name}} of who asks.",
    )
    .default("the role's name"),
    Field::number(
        "limit",
        "What each key may spend, in US dollars, more than 0. An empty value means no limit. A\n\
         rotation starts a new key with the full limit, and so does every lease of a dynamic role.",
    )
    .nullable(),
    Field::text(
        "limit_reset",
        "When the spending starts at zero again, at 00:00 UTC. An empty value means never.",
    )
    .one_of(&["daily", "weekly", "monthly"])
    .nullable(),
    Field::switch(
        "include_byok_in_limit",
        "Whether spending on the account's own provider keys counts toward the limit.",
    )
    .default("false"),
    Field::text(
        "workspace",
        "The workspace to make the keys in, its slug or UUID. Which one that is, is looked up when it\n\
         is written, and stays. An empty value means the account's default one. A change takes effect\n\
         with the next key.",
    )
    .nullable(),
    Field::text(
        "workspace_id",
        "The same by UUID alone, which is not looked up. An empty value means the account's default\n\
         one.",
    )
    .nullable(),
    Field::text(
        "guardrail",
        "The guardrail that the keys are held to, its exact name or UUID, one of their workspace. A\n\
         key is not handed out before it is. A change applies to living keys at once; together with\n\
         another connection or workspace it applies to the next key. An empty value means none for\n\
         the keys to come; it is not taken off those that live.",
    )
    .nullable(),
    Field::text(
        "creator_user_id",
        "Whom the keys belong to in an organization, the user id of a member. An empty value means\n\
         nobody. A change takes effect with the next key.",
    )
    .nullable(),
    Field::text("description", "Your words, shown on read."),
];

/// In characters, of `key_name`.
pub const LONGEST_KEY_NAME: usize = 100;

#[cfg(test)]
mod tests;
