//! Looks up what a role's terms refer to at OpenRouter when they are written: workspace and guardrail, whose
//! ids are pinned, and the member in `creator_user_id`, who is only verified. Names can be reused at
//! OpenRouter, so keys are created with the pinned ids.
//!
//! A name that is written again unchanged is resolved again. If OpenRouter cannot be asked, the pinned id
//! stays, so that an outage does not block other changes.

use std::collections::BTreeMap;

use crate::engine::connection::{Link, Urgency};
use crate::engine::context::RoleGuard;
use crate::engine::error::Error;
use crate::engine::role::Terms;
use crate::framework::Fields;
use crate::openrouter::{self, Guardrail, GuardrailId, WorkspaceId, WorkspaceRef};

/// Looks up the workspace and the guardrail, by name or UUID, if they are in the request or the role moves, and
/// a member that is new. Makes no other request, and none at all if the connection does not allow the role.
/// Returns warnings.
///
/// # Errors
/// [`Error::Invalid`] for names that do not exist, are unsuitable or are not allowed; [`Error::OpenRouter`] if
/// that cannot be determined; [`Error::Missing`] if there is no such connection.
pub async fn pin(
    guard: &RoleGuard<'_>,
    before: Option<&Terms>,
    terms: &mut Terms,
    fields: &Fields,
) -> Result<Vec<String>, Error> {
    let pinning = Pinning {
        guard,
        before,
        fields,
        other_account: before.is_some_and(|b| b.connection != terms.connection),
    };
    pinning.workspace(terms).await?;
    let renamed = pinning.guardrail(terms).await?;
    let unclear = pinning.creator(terms).await?;
    Ok(renamed.into_iter().chain(unclear).collect())
}

struct Pinning<'a> {
    guard: &'a RoleGuard<'a>,
    before: Option<&'a Terms>,
    fields: &'a Fields,
    other_account: bool,
}

impl Pinning<'_> {
    async fn workspace(&self, terms: &mut Terms) -> Result<(), Error> {
        let Some(text) = &terms.workspace else {
            return Ok(());
        };
        if !self.fields.has("workspace") && !self.other_account {
            return Ok(());
        }
        let same = |b: &&Terms| !self.other_account && b.workspace.as_ref() == Some(text);
        let pinned = self
            .before
            .filter(same)
            .and_then(|b| b.workspace_id.clone());
        let link = self.link(terms).await?;
        let called = WorkspaceRef::parse(text)?;
        let found = match link
            .client(Urgency::Ordinary)
            .await
            .workspace(&called)
            .await
        {
            Ok(workspace) => workspace.id,
            Err(openrouter::Error::NotFound { .. }) => {
                return Err(Error::Invalid(format!(
                    "workspace: the account of connection {:?} has no workspace {text:?}",
                    terms.connection.to_string()
                )));
            }
            Err(reason) => pinned.clone().ok_or_else(|| {
                Error::while_doing(format!("workspace {text:?} cannot be looked up"))(reason)
            })?,
        };
        let given = terms.workspace_id.as_ref().filter(|_| !self.other_account);
        if let Some(known) = pinned.as_ref().or(given).filter(|id| **id != found) {
            return Err(Error::Invalid(format!(
                "workspace: {text:?} is now workspace {found}, not {known}; use the UUID of the \
                 one that is meant"
            )));
        }
        terms.workspace_id = Some(found);
        Ok(())
    }

    async fn guardrail(&self, terms: &mut Terms) -> Result<Option<String>, Error> {
        let Some(text) = &terms.guardrail else {
            return Ok(None);
        };
        let stays = self.before.is_some_and(|b| b.place() == terms.place());
        if !self.fields.has("guardrail") && stays {
            return Ok(None);
        }
        let same = |b: &&Terms| stays && b.guardrail.as_ref() == Some(text);
        let pinned = self
            .before
            .filter(same)
            .and_then(|b| b.guardrail_id.clone());
        let link = self.link(terms).await?;
        let found = match find(&link, text, terms.workspace_id.as_ref()).await {
            Ok(found) => found?,
            Err(reason) => pinned.clone().ok_or_else(|| {
                Error::while_doing(format!("guardrail {text:?} cannot be looked up"))(reason)
            })?,
        };
        let warning = match pinned.filter(|pinned| *pinned != found) {
            None => None,
            Some(pinned) => Some(resolve_reused_name(&link, text, &pinned, &found).await?),
        };
        terms.guardrail_id = Some(found);
        Ok(warning)
    }

    /// Checks that the member exists, if OpenRouter can tell.
    async fn creator(&self, terms: &Terms) -> Result<Option<String>, Error> {
        let Some(id) = &terms.creator_user_id else {
            return Ok(None);
        };
        let known = self.before.and_then(|b| b.creator_user_id.as_ref()) == Some(id);
        if known && !self.other_account {
            return Ok(None);
        }
        let link = self.link(terms).await?;
        let members = link.client(Urgency::Ordinary).await.members().await;
        let doing = "creator_user_id cannot be looked up";
        match members.map_err(Error::while_doing(doing))? {
            None => Ok(Some(
                "the account does not belong to an organization, so creator_user_id cannot be \
                 verified"
                    .to_owned(),
            )),
            Some(members) if members.contains(id) => Ok(None),
            Some(_) => Err(Error::Invalid(format!(
                "creator_user_id: the organization has no member {id:?}"
            ))),
        }
    }

    async fn link(&self, terms: &Terms) -> Result<Link, Error> {
        let engine = self.guard.engine();
        let link = engine.links.open(&*engine.storage, &terms.connection);
        let link = link.await?;
        // Before its management key is used: a role that may not use the connection must not see answers.
        let (bounds, limit) = (link.bounds(), terms.ceiling());
        bounds.check_order(&terms.connection, self.guard.name(), limit)?;
        Ok(link)
    }
}

/// Handles a guardrail's name that now refers to another guardrail. If the former guardrail is gone, it was
/// created again, and this returns a warning. Otherwise guardrails were renamed, and the role's living keys
/// must not be reassigned because of that.
async fn resolve_reused_name(
    link: &Link,
    text: &str,
    pinned: &GuardrailId,
    found: &GuardrailId,
) -> Result<String, Error> {
    let before = link.client(Urgency::Ordinary).await.guardrail(pinned).await;
    match before {
        Err(openrouter::Error::NotFound { .. }) => Ok(format!(
            "guardrail {text:?} was {pinned}, which is gone; it is now {found}, and the keys are \
             assigned to that"
        )),
        Ok(_) => Err(Error::Invalid(format!(
            "guardrail: {text:?} is now guardrail {found}, not {pinned}; use the UUID of the one \
             that is meant"
        ))),
        Err(reason) => Err(Error::while_doing(format!(
            "guardrail {pinned} cannot be looked up"
        ))(reason)),
    }
}

/// The guardrail with the name or id `text` that accepts keys of a workspace. The outer error is from
/// OpenRouter.
async fn find(
    link: &Link,
    text: &str,
    workspace: Option<&WorkspaceId>,
) -> Result<Result<GuardrailId, Error>, openrouter::Error> {
    let refused = |what: String| Ok(Err(Error::Invalid(format!("guardrail: {what}"))));
    let turn = link.client(Urgency::Ordinary).await;
    let there = turn.guardrails(workspace).await?;
    drop(turn);
    let by_id: BTreeMap<GuardrailId, Guardrail> =
        there.into_iter().map(|one| (one.id.clone(), one)).collect();
    let where_to = workspace.map_or("the account's default workspace".to_owned(), |id| {
        format!("workspace {id}")
    });
    let found = match GuardrailId::parse(text) {
        Ok(id) => match by_id.get(&id).cloned() {
            Some(found) => found,
            None => match link.client(Urgency::Ordinary).await.guardrail(&id).await {
                Ok(found) if found.workspace_id.is_none() => found,
                Ok(_) => {
                    return refused(format!(
                        "{id} belongs to another workspace and does not accept keys of {where_to}"
                    ));
                }
                Err(openrouter::Error::NotFound { .. }) => {
                    return refused(format!("there is no guardrail {id}"));
                }
                Err(reason) => return Err(reason),
            },
        },
        Err(_) => {
            let mut named = by_id.into_values().filter(|one| one.name == text);
            match (named.next(), named.next()) {
                (Some(found), None) => found,
                (None, _) => {
                    return refused(format!("{where_to} has no guardrail named {text:?}"));
                }
                (Some(one), Some(other)) => {
                    return refused(format!(
                        "{where_to} has more than one guardrail named {text:?}, including {} and \
                         {}; use the UUID of one",
                        one.id, other.id
                    ));
                }
            }
        }
    };
    if let Some(id) = &found.workspace_id {
        let called = WorkspaceRef::from(id);
        match link
            .client(Urgency::Ordinary)
            .await
            .workspace(&called)
            .await
        {
            Ok(whole) if whole.default_guardrail_id.as_ref() == Some(&found.id) => {
                return refused(format!(
                    "{} is the default guardrail of {where_to}; it applies to all keys there, and \
                     keys cannot be assigned to it",
                    found.id
                ));
            }
            Ok(_) | Err(openrouter::Error::NotFound { .. }) => {}
            Err(reason) => return Err(reason),
        }
    }
    Ok(Ok(found.id))
}
