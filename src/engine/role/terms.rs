//! What a role of either kind asks for each of its keys, and how a write changes it.

use serde::{Deserialize, Serialize};

use crate::engine::error::Error;
use crate::engine::names::{ConnectionName, Place, RoleName};
use crate::engine::role::budget::{self, Budget, Counting};
use crate::framework::{Field, Fields};
use crate::openrouter::{LimitReset, Limits, Usd, WorkspaceId};

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
    /// The operator's words.
    pub description: String,
}

impl Terms {
    /// The terms that a write makes of `before`: what it does not name stays.
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
            workspace_id: match fields.text("workspace_id") {
                Some(id) => {
                    let id = WorkspaceId::parse(id);
                    Some(id.map_err(|e| Error::Invalid(format!("workspace_id: {e}")))?)
                }
                None if fields.is_null("workspace_id") => None,
                None => before.and_then(|b| b.workspace_id.clone()),
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
            workspace_id: self.workspace_id.as_ref(),
            description: &self.description,
        }
    }
}

/// See [`Terms::view`].
#[derive(Serialize)]
pub struct TermsView<'a> {
    connection: &'a ConnectionName,
    key_name: &'a str,
    limit: Option<Usd>,
    limit_reset: Option<LimitReset>,
    include_byok_in_limit: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_reset: Option<LimitReset>,
    workspace_id: Option<&'a WorkspaceId>,
    description: &'a str,
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
        Some(amount) => {
            let usd = Usd::new(amount).ok().filter(|usd| usd.as_f64() > 0.0);
            Some(usd.ok_or_else(|| {
                Error::invalid("limit must be more than 0 US dollars, or empty for no limit")
            })?)
        }
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
        "workspace_id",
        "The workspace to make the keys in, a UUID. An empty value means the account's default\n\
         one. A change takes effect with the next key.",
    )
    .nullable(),
    Field::text("description", "Your words, shown on read."),
];

/// In characters, of `key_name`.
pub const LONGEST_KEY_NAME: usize = 100;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn write(before: Option<&Terms>, body: Value) -> Result<Terms, String> {
        let Value::Object(body) = body else {
            panic!("not an object")
        };
        let fields = Fields::parse(FIELDS, &[], &body, true).map_err(|e| e.to_string())?;
        let name = RoleName::new("app").unwrap();
        let terms = Terms::apply(&name, before, &fields).map_err(|e| e.to_string())?;
        terms.check().map_err(|e| e.to_string())?;
        Ok(terms)
    }

    #[test]
    fn nothing_given_means_the_documented_defaults() {
        let terms = write(None, json!({})).unwrap();
        assert_eq!(terms.connection, ConnectionName::default());
        assert_eq!(terms.key_name, "app");
        assert_eq!(terms.limits, Limits::default());
        assert_eq!(terms.workspace_id, None);
    }

    #[test]
    fn what_an_update_does_not_name_stays() {
        let before = write(None, json!({"limit": 5, "limit_reset": "daily"})).unwrap();
        let after = write(Some(&before), json!({"description": "new"})).unwrap();
        let expected = Terms {
            description: "new".to_owned(),
            ..before
        };
        assert_eq!(after, expected);
    }

    #[test]
    fn a_limit_that_is_taken_away_takes_its_reset_with_it() {
        let before = write(None, json!({"limit": 5, "limit_reset": "daily"})).unwrap();
        let after = write(Some(&before), json!({"limit": null})).unwrap();
        assert_eq!(after.limits, Limits::default());
        let by_hand = write(Some(&before), json!({"limit": ""})).unwrap();
        assert_eq!(by_hand, after);
    }

    #[test]
    fn contradictions_are_refused_with_the_field_that_is_wrong() {
        let table = [
            (json!({"limit": 0}), "limit must be"),
            (json!({"limit_reset": "daily"}), "limit_reset needs a limit"),
            (
                json!({"limit_reset": "hourly", "limit": 1}),
                "limit_reset must be one of",
            ),
            (json!({"key_name": " "}), "key_name must have"),
            (json!({"key_name": "x".repeat(101)}), "key_name must have"),
            (json!({"workspace_id": "main"}), "workspace_id: "),
            (json!({"connection": "a/b"}), "connection must be"),
        ];
        for (body, reason) in table {
            let refusal = write(None, body.clone()).unwrap_err();
            assert!(refusal.contains(reason), "{body}: {refusal}");
        }
    }
}
