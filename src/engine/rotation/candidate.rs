//! Checks whether a role may adopt an existing key, and finds out where the key is.

use jiff::Timestamp;
use secrecy::SecretString;

use crate::engine::clock::seconds_until;
use crate::engine::connection::{Link, Urgency};
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::keys::{Holder, Holdings, seen};
use crate::engine::names::{ConnectionName, Nonce};
use crate::engine::role::Terms;
use crate::openrouter::{self, Bearer, GuardrailId, Key, KeyHash, ListedKey, Walk, WorkspaceId};

/// The guardrail that the key is assigned to.
pub(super) async fn guardrail_of(
    link: &Link,
    hash: &KeyHash,
) -> Result<Option<GuardrailId>, Error> {
    let turn = link.client(Urgency::Ordinary).await;
    let found = turn.guardrail_of(hash).await;
    found.map_err(Error::while_doing(
        "the guardrail of api_key cannot be looked up",
    ))
}

/// The workspace that the key is in, in the form that the terms use. If the terms ask for the account's
/// default workspace, the key may already be there. OpenRouter does not say which workspace is the default
/// one, but lists its keys.
pub(super) async fn workspace_of(
    link: &Link,
    key: &Key,
    terms: &Terms,
) -> Result<Option<WorkspaceId>, Error> {
    let here = key.workspace_id.clone();
    if here.is_none() || terms.workspace_id.is_some() {
        return Ok(here);
    }
    let mut default = None;
    let mut visit = |listed: ListedKey| {
        // The owner does not matter: all listed keys are in that workspace.
        default = default.take().or_else(|| listed.workspace_id());
        Ok(())
    };
    let turn = link.client(Urgency::Ordinary).await;
    let listed = turn.next_page(&mut Walk::through(None), &mut visit).await;
    listed.map_err(Error::while_doing(
        "the workspace of api_key cannot be looked up",
    ))?;
    Ok(here.filter(|here| default.as_ref() != Some(here)))
}

/// Proves that the key is an ordinary, living key of the connection's account, by the key itself and by the
/// management key. Returns its label, which contains no secret, and what OpenRouter says about it.
pub(super) async fn prove(
    link: &Link,
    connection: &ConnectionName,
    secret: &SecretString,
    hash: &KeyHash,
    now: Timestamp,
) -> Result<(String, Key), Error> {
    let turn = link.client(Urgency::Ordinary).await;
    let itself = match turn.current_key(secret).await {
        Ok(itself) => itself,
        Err(openrouter::Error::Unauthorized {
            bearer: Bearer::ApiKey,
            ..
        }) => {
            return Err(Error::invalid(
                "api_key does not work: OpenRouter says that it is unknown, disabled, expired or \
                 deleted",
            ));
        }
        Err(openrouter::Error::UnusableKey) => {
            return Err(Error::invalid("api_key must be an OpenRouter API key"));
        }
        Err(reason) => return Err(Error::while_doing("api_key cannot be verified")(reason)),
    };
    drop(turn);
    if itself.is_management_key {
        return Err(Error::invalid(
            "api_key must be an ordinary API key; this is a management key, which goes into a \
             connection",
        ));
    }
    let Some(key) = seen(link, hash).await? else {
        return Err(Error::Invalid(format!(
            "api_key works, but the management key of connection {:?} does not see it: it belongs to \
             another account, or an application made it through OAuth, so it could not be revoked",
            connection.to_string()
        )));
    };
    if key.disabled || key.expires_at.is_some_and(|expiry| expiry <= now) {
        return Err(Error::invalid(
            "api_key is disabled or expired at OpenRouter",
        ));
    }
    let workspaces = (&itself.workspace_id, &key.workspace_id);
    let is_contradiction =
        itself.label != key.label || matches!(workspaces, (Some(own), Some(seen)) if own != seen);
    if is_contradiction {
        return Err(Error::Unproven(
            "what OpenRouter reports about api_key differs between the key itself and the \
             management key"
                .to_owned(),
        ));
    }
    Ok((itself.label, key))
}

/// Rejects a key that lives longer than the connection's `max_key_lifetime`, if that is set.
pub(super) fn require_short_lived(
    longest: Option<u64>,
    connection: &ConnectionName,
    key: &Key,
    now: Timestamp,
) -> Result<(), Error> {
    let Some(longest) = longest else {
        return Ok(());
    };
    let expires = match key.expires_at {
        Some(end) if seconds_until(now, end) <= longest => return Ok(()),
        Some(end) => format!("expires at {end}"),
        None => "never expires".to_owned(),
    };
    Err(Error::Invalid(format!(
        "api_key {expires}, which cannot be changed at OpenRouter, and connection {:?} allows keys that \
         live at most {longest} seconds (max_key_lifetime)",
        connection.to_string()
    )))
}

/// The other mount would recognize its mark, treat the key as a lost one, and delete it.
pub(super) async fn remove_mark(link: &Link, key: &Key, nonce: &Nonce) -> Result<Key, Error> {
    let turn = link.client(Urgency::Ordinary).await;
    let renamed = turn.rename(&key.hash, nonce.unmarked(&key.name)).await;
    renamed.map_err(Error::while_doing(
        "the other mount's mark cannot be removed from the name of api_key",
    ))
}

/// Checks that the key has no other owner. Returns the mark of another mount, if `force` takes the key from
/// that mount.
pub(super) async fn require_free(
    engine: &Engine,
    key: &Key,
    force: bool,
) -> Result<Option<Nonce>, Error> {
    match Holdings::of(engine).await?.holder(&key.hash) {
        Some(Holder::Role(role, _)) => {
            return Err(Error::Invalid(format!(
                "api_key is a key of role {:?} already",
                role.to_string()
            )));
        }
        Some(Holder::Lease(record)) => {
            return Err(Error::Invalid(format!(
                "api_key is the key of a lease of role {:?}, and ends with it",
                record.key.role.to_string()
            )));
        }
        None => {}
    }
    let Some(nonce) = Nonce::of_key_name(&key.name) else {
        return Ok(None);
    };
    if engine.books().await?.intents.is_known(&nonce) {
        return Err(Error::Conflict(
            "api_key was created by this mount, and its outcome is not settled yet; try again in a \
             few minutes"
                .to_owned(),
        ));
    }
    let origin = nonce.origin();
    let is_ours = origin.is_some_and(|origin| origin.is_of_mount(&engine.mount));
    if is_ours || force {
        return Ok((!is_ours).then_some(nonce));
    }
    Err(Error::invalid(
        "api_key was created by another mount of this engine, which may revoke it at any time; forget \
         its role there with revoke_keys=false, and give force=true here",
    ))
}
