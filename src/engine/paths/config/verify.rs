//! Verifies a management key before it is used.

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use crate::engine::clock::after;
use crate::engine::connection::{Connection, Link, Proof, Urgency};
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::keys::{Holdings, is_there};
use crate::engine::names::ConnectionName;
use crate::openrouter::KeyHash;

/// Verifies with OpenRouter that the key is a management key, and lists the workspaces that it can see.
/// Returns a warning if they cannot be listed.
pub(super) async fn prove(link: &Link, now: Timestamp) -> Result<(Proof, Option<String>), Error> {
    let key = link
        .client(Urgency::Ordinary)
        .await
        .current_management_key()
        .await
        .map_err(Error::while_doing("the management key cannot be verified"))?;
    if !key.is_management_key {
        return Err(Error::invalid(
            "management_key must be a management key; this is an ordinary API key, which cannot \
             create or revoke others. Management keys are made in OpenRouter's settings",
        ));
    }
    let seen = link.client(Urgency::Ordinary).await.workspaces().await;
    let (workspaces, unlisted) = match seen {
        Ok(workspaces) => (Some(workspaces), None),
        Err(reason) => (
            None,
            Some(format!("the workspaces cannot be listed: {reason}")),
        ),
    };
    let proof = Proof {
        label: key.label,
        expires_at: key.expires_at,
        verified_at: now,
        workspaces,
    };
    Ok((proof, unlisted))
}

/// The warnings about a key that was just verified.
pub(super) fn warnings(proof: &Proof, now: Timestamp) -> Option<String> {
    let expires_at = proof.expires_at?;
    (expires_at <= after(now, SOON)).then(|| {
        format!(
            "the management key expires at {expires_at}; OpenRouter cannot renew it, so create a \
             new one in its settings and write it here before then"
        )
    })
}

/// Whether this change could hide the managed keys from the engine.
pub(super) fn may_hide_keys(before: &Connection, after: &Connection) -> bool {
    !after.has_key_of(before) || before.api_url != after.api_url
}

/// Verifies that every key that the engine manages through the connection can be seen over `new`. A key that
/// cannot be seen over `old` either is gone, and is ignored. Returns a warning if the keys of a role are
/// unknown.
///
/// # Errors
/// [`Error::Invalid`] if there are keys that cannot be reached; errors from OpenRouter or storage.
pub(super) async fn require_keys_reachable(
    engine: &Engine,
    name: &ConnectionName,
    old: &Link,
    new: &Link,
) -> Result<Option<String>, Error> {
    let holdings = Holdings::of(engine).await?;
    let lost: Vec<KeyHash> = stream::iter(holdings.keys_of(name))
        .map(|hash| async move {
            let seen = sees(new, &hash).await? || !sees(old, &hash).await.unwrap_or(true);
            Ok::<_, Error>((!seen).then_some(hash))
        })
        .buffer_unordered(CONCURRENCY)
        .try_filter_map(|lost| async move { Ok(lost) })
        .try_collect()
        .await?;
    if let Some(one) = lost.first() {
        return Err(Error::Invalid(format!(
            "management_key does not see {} of the keys that this engine manages (for \
             example {one}), so they could no longer be revoked; give it a key of the same account, or \
             force=true to leave them behind",
            lost.len()
        )));
    }
    Ok(holdings.unreadable.first().map(|role| {
        format!(
            "{} roles are unreadable, for example {role}; the engine cannot tell whether the management \
             key sees their keys",
            holdings.unreadable.len()
        )
    }))
}

async fn sees(link: &Link, hash: &KeyHash) -> Result<bool, Error> {
    is_there(link, hash).await.map_err(|reason| match reason {
        Error::OpenRouter { reason, .. } => Error::OpenRouter {
            doing: "it cannot be verified that the management key sees the managed keys".to_owned(),
            reason,
        },
        other => other,
    })
}

/// How long before its expiry a key causes a warning, in seconds: 14 days.
const SOON: u64 = 14 * 24 * 60 * 60;
/// Keys verified concurrently. More would only wait for their turns.
const CONCURRENCY: usize = 8;
