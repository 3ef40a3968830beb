//! Assigns keys to a guardrail and verifies the assignment. OpenRouter cannot create a key with a guardrail,
//! so a new key is withheld until this has succeeded. A key is never removed from its guardrail: it is
//! assigned to another one or deleted.

use std::collections::{BTreeMap, BTreeSet};

use super::presence::is_there;
use super::prove::pause_before_try;
use crate::engine::connection::{Link, Urgency};
use crate::engine::context::{Engine, RoleGuard};
use crate::engine::error::Error;
use crate::engine::names::ConnectionName;
use crate::engine::role::Terms;
use crate::openrouter::{self, GuardrailId, KeyHash};

/// Assigns up to a hundred keys to a guardrail and verifies the assignment. Ignores keys that OpenRouter does
/// not know, and returns them. Safe to repeat. Makes one request to assign them, and one to verify that for
/// every hundred assignments of the guardrail, until the keys are found. If OpenRouter assigns fewer keys, it
/// is asked about each.
///
/// # Errors
/// [`Error::OpenRouter`] if a key may not be assigned. Its reason is definite only if no key was assigned: a
/// refusal after an assignment says nothing about that assignment.
async fn assign(
    link: &Link,
    urgency: Urgency,
    guardrail: &GuardrailId,
    keys: &[KeyHash],
) -> Result<BTreeSet<KeyHash>, Error> {
    let counted = order(link, urgency, guardrail, keys).await?;
    let proved = prove(link, urgency, guardrail, keys, counted).await;
    proved.map_err(|reason| half_done(true, reason))
}

/// The outcome for each key of [`assign_each`]. A key in none of the sets was not tried, or the
/// outcome for it is unknown.
#[derive(Default)]
pub struct Assigned {
    /// Those that are proved to be assigned.
    pub proved: BTreeSet<KeyHash>,
    /// Those that OpenRouter does not know.
    pub gone: BTreeSet<KeyHash>,
    /// Those that it refuses to assign.
    pub refused: BTreeSet<KeyHash>,
    /// Why it refuses the first of them.
    pub refusal: Option<Error>,
    /// The error after which no further key was tried. Definite only if no key was assigned.
    pub broken_off: Option<Error>,
}

impl Assigned {
    /// A refused key may still be assigned: a key that was moved to another workspace keeps its guardrail,
    /// and cannot be assigned to it again.
    async fn recheck_refused(
        &mut self,
        link: &Link,
        urgency: Urgency,
        guardrail: &GuardrailId,
    ) -> Result<(), Error> {
        let refused = self.refused.iter();
        let expected = refused
            .map(|key| (key.clone(), guardrail.clone()))
            .collect();
        let missing = link.client(urgency).await.unassigned(&expected).await;
        let missing = missing.map_err(Error::while_doing(format!(
            "the keys of guardrail {guardrail} cannot be listed"
        )))?;
        let refused = std::mem::replace(&mut self.refused, missing);
        let is_assigned = |key: &KeyHash| !self.refused.contains(key);
        self.proved.extend(refused.into_iter().filter(is_assigned));
        Ok(())
    }

    /// The reason why not all keys are assigned. Definite only if no key was assigned.
    pub fn failure(&mut self) -> Option<Error> {
        let is_begun = !self.proved.is_empty();
        let refusal = self.refusal.take().filter(|_| !self.refused.is_empty());
        let refusal = refusal.map(|reason| half_done(is_begun, reason));
        self.broken_off.take().or(refusal)
    }
}

/// Assigns any number of keys to a guardrail and verifies that, a hundred by a request. OpenRouter refuses all
/// keys of a request if it refuses one, for example a key that was moved to another workspace, so a refused
/// request is repeated in halves: one key that it refuses leaves the others assigned. If it refuses the first
/// few keys one by one, it is taken to refuse them all. Every request but the first is behind the fence:
/// another leader may have been elected since the last one.
///
/// # Errors
/// Errors from storage, if this node may no longer write.
pub async fn assign_each(
    guard: &RoleGuard<'_>,
    link: &Link,
    urgency: Urgency,
    guardrail: &GuardrailId,
    keys: &[KeyHash],
) -> Result<Assigned, Error> {
    let mut assigned = Assigned::default();
    let mut rest: Vec<&[KeyHash]> = keys.chunks(MOST_AT_ONCE).rev().collect();
    let mut is_first = true;
    while let Some(keys) = rest.pop() {
        if !std::mem::take(&mut is_first) {
            guard.fence(None).await?;
        }
        match (assign(link, urgency, guardrail, keys).await, keys) {
            (Ok(gone), keys) => {
                let there = keys.iter().filter(|key| !gone.contains(key));
                assigned.proved.extend(there.cloned());
                assigned.gone.extend(gone);
            }
            (Err(reason), [key]) if reason.is_refused() => {
                assigned.refused.insert(key.clone());
                if assigned.proved.is_empty() && assigned.refused.len() == FEW {
                    assigned.broken_off = Some(reason);
                    break;
                }
                assigned.refusal.get_or_insert(reason);
            }
            (Err(reason), keys) if reason.is_refused() => {
                let (first, second) = keys.split_at(keys.len() / 2);
                rest.extend([second, first]);
            }
            (Err(reason), _) => {
                assigned.broken_off = Some(reason);
                break;
            }
        }
    }
    if !assigned.refused.is_empty()
        && let Err(reason) = assigned.recheck_refused(link, urgency, guardrail).await
    {
        assigned.broken_off.get_or_insert(reason);
    }
    let is_begun = !assigned.proved.is_empty();
    let broken_off = assigned.broken_off.take();
    assigned.broken_off = broken_off.map(|reason| half_done(is_begun, reason));
    Ok(assigned)
}

/// The error for several keys. If some were assigned before it, the outcome is unclear.
pub fn half_done(is_begun: bool, error: Error) -> Error {
    match error {
        Error::OpenRouter { doing, reason } if is_begun && reason.is_definite() => {
            Error::OpenRouter {
                doing,
                reason: openrouter::Error::Unclear {
                    retry_after: reason.retry_after(),
                    reason: format!("keys were assigned before this: {reason}"),
                },
            }
        }
        other => other,
    }
}

/// A connection and a guardrail to which keys are assigned through it.
pub type Target = (ConnectionName, GuardrailId);

/// The failures of assigning the keys of a role, each to its guardrail.
pub struct Failures {
    own: Option<Target>,
    /// The first failure, or that of the role's own guardrail if that one failed.
    pub shown: Option<Error>,
}

impl Failures {
    /// Nothing has failed yet, for a role with these terms.
    pub fn of(terms: &Terms) -> Self {
        let own = terms.guardrail_id.clone();
        Self {
            own: own.map(|guardrail| (terms.connection.clone(), guardrail)),
            shown: None,
        }
    }

    /// Whether this is the role's connection and own guardrail.
    pub fn is_own(&self, target: &Target) -> bool {
        self.own.as_ref() == Some(target)
    }

    /// Records the outcome for one guardrail.
    ///
    /// # Errors
    /// Errors from storage.
    pub fn note(&mut self, target: &Target, outcome: Result<(), Error>) -> Result<(), Error> {
        match outcome {
            Ok(()) => {}
            Err(reason @ (Error::Storage(_) | Error::System(_))) => return Err(reason),
            Err(reason) if self.shown.is_none() || self.is_own(target) => {
                self.shown = Some(reason);
            }
            Err(_) => {}
        }
        Ok(())
    }
}

/// Assigns the keys, and returns how many OpenRouter says it has assigned. A definite error means none.
async fn order(
    link: &Link,
    urgency: Urgency,
    guardrail: &GuardrailId,
    keys: &[KeyHash],
) -> Result<usize, Error> {
    let assigned = link.client(urgency).await.assign(guardrail, keys).await;
    assigned.map_err(Error::while_doing(cannot_be_assigned(guardrail, keys)))
}

/// Verifies that the keys are assigned, of which OpenRouter has counted so many. Returns those that it does
/// not know.
async fn prove(
    link: &Link,
    urgency: Urgency,
    guardrail: &GuardrailId,
    keys: &[KeyHash],
    counted: usize,
) -> Result<BTreeSet<KeyHash>, Error> {
    let doing = || cannot_be_assigned(guardrail, keys);
    let mut gone = BTreeSet::new();
    if counted != keys.len() {
        for key in keys {
            if !is_there(link, key).await? {
                gone.insert(key.clone());
            }
        }
        if counted + gone.len() != keys.len() {
            let reason = format!("its answer counts {counted} of {} keys", keys.len());
            return Err(unclear(doing(), reason));
        }
    }
    let living = keys.iter().filter(|key| !gone.contains(key));
    let expected: BTreeMap<_, _> = living.map(|key| (key.clone(), guardrail.clone())).collect();
    let missing = link.client(urgency).await.unassigned(&expected).await;
    let missing = missing.map_err(Error::while_doing(doing()))?;
    match missing.first() {
        None => Ok(gone),
        Some(key) => {
            let reason = format!("its list of assignments does not have key {key}");
            Err(unclear(doing(), reason))
        }
    }
}

fn cannot_be_assigned(guardrail: &GuardrailId, keys: &[KeyHash]) -> String {
    match keys {
        [key] => format!("key {key} cannot be assigned to guardrail {guardrail}"),
        _ => format!("the keys cannot be assigned to guardrail {guardrail}"),
    }
}

/// Assigns a new key to a guardrail. OpenRouter may not know the key everywhere yet.
///
/// # Errors
/// [`Error::OpenRouter`] and [`Error::Unproven`] if the key may not be assigned. It must not be handed out
/// then.
pub(super) async fn assign_new(
    engine: &Engine,
    link: &Link,
    urgency: Urgency,
    guardrail: &GuardrailId,
    key: &KeyHash,
) -> Result<(), Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        let keys = std::slice::from_ref(key);
        // Nobody has the key yet, so the reason for the refusal matters more than the unclear outcome.
        let counted = order(link, urgency, guardrail, keys).await?;
        let gone = prove(link, urgency, guardrail, keys, counted).await?;
        if gone.is_empty() {
            return Ok(());
        }
        if !pause_before_try(engine, tries).await {
            return Err(Error::Unproven(format!(
                "OpenRouter does not know it yet, so it cannot be assigned to guardrail \
                 {guardrail}"
            )));
        }
    }
}

fn unclear(doing: String, reason: String) -> Error {
    let retry_after = None;
    let reason = openrouter::Error::Unclear {
        reason,
        retry_after,
    };
    Error::OpenRouter { doing, reason }
}

/// How many keys have to be refused one by one, and none accepted, for the guardrail to be the reason.
const FEW: usize = 3;

/// How many keys one request may assign is not documented. This is the size of OpenRouter's lists.
const MOST_AT_ONCE: usize = 100;
