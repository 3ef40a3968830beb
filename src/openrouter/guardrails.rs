//! Guardrails, and which keys are assigned to them.
//!
//! OpenRouter cannot create a guarded key, so a new key is assigned before it is handed out. A key has at most
//! one guardrail: assigning another one replaces it. The row of a deleted key stays, and lists omit it.
//! Nothing here removes a key from its guardrail.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::client::{Client, NO_BODY};
use super::error::Error;
use super::identifiers::{GuardrailId, KeyHash, WorkspaceId};
use super::lenient::{null_as_default, workspace_id};

/// A guardrail, as far as needed to assign keys. What it allows is not read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Guardrail {
    /// Its identifier.
    pub id: GuardrailId,
    /// The name that people see. Not unique.
    #[serde(default, deserialize_with = "null_as_default")]
    pub name: String,
    /// The workspace whose keys it accepts; `None` means every workspace.
    #[serde(default, deserialize_with = "workspace_id")]
    pub workspace_id: Option<WorkspaceId>,
}

/// The assignment of a key to a guardrail.
#[derive(Deserialize)]
struct Row {
    key_hash: KeyHash,
    guardrail_id: GuardrailId,
}

impl Client {
    /// The guardrails of a workspace (`None`: the default one).
    ///
    /// # Errors
    /// Every variant of [`Error`] but `UnusableKey`.
    pub async fn guardrails(
        &self,
        workspace: Option<&WorkspaceId>,
    ) -> Result<Vec<Guardrail>, Error> {
        match workspace {
            None => self.all_rows("/guardrails").await,
            Some(id) => {
                let path = format!("/guardrails?workspace_id={id}");
                self.all_rows(&path).await
            }
        }
    }

    /// A guardrail (`GET /guardrails/{id}`).
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none with this id.
    pub async fn guardrail(&self, id: &GuardrailId) -> Result<Guardrail, Error> {
        let path = format!("/guardrails/{id}");
        let credential = self.transport.management_key();
        let answer = self
            .transport
            .send(Method::GET, &path, credential, NO_BODY)
            .await?;
        answer.data()
    }

    /// Assigns keys to a guardrail, which replaces their former one, and returns the number of assigned
    /// keys: OpenRouter ignores keys that it does not know. Safe to repeat.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such guardrail, [`Error::Refused`] if it accepts no keys of that
    /// workspace, or no keys at all.
    pub async fn assign(&self, id: &GuardrailId, keys: &[KeyHash]) -> Result<usize, Error> {
        #[derive(Serialize)]
        struct Keys<'a> {
            key_hashes: &'a [KeyHash],
        }
        #[derive(Deserialize)]
        struct Assigned {
            assigned_count: usize,
        }
        let path = format!("/guardrails/{id}/assignments/keys");
        let credential = self.transport.management_key();
        let body = Keys { key_hashes: keys };
        let answer = self
            .transport
            .send(Method::POST, &path, credential, Some(&body))
            .await?;
        let assigned: Assigned = answer.read()?;
        Ok(assigned.assigned_count)
    }

    /// The guardrail that a key is assigned to, if any. Makes one request per hundred assignments of the
    /// account, until it is found.
    ///
    /// # Errors
    /// Every variant of [`Error`] but `UnusableKey`.
    pub async fn guardrail_of(&self, hash: &KeyHash) -> Result<Option<GuardrailId>, Error> {
        let mut found = None;
        let visited = self.each_page("/guardrails/assignments/keys", |page| {
            let mut rows = page.rows::<Row>();
            found = rows
                .find(|row| row.key_hash == *hash)
                .map(|row| row.guardrail_id);
            match found {
                Some(_) => ControlFlow::Break(()),
                None => ControlFlow::Continue(()),
            }
        });
        visited.await?;
        Ok(found)
    }

    /// The keys that are not assigned to their expected guardrail. Makes one request per hundred assignments,
    /// until all are found.
    ///
    /// # Errors
    /// Every variant of [`Error`] but `UnusableKey`.
    pub async fn unassigned(
        &self,
        expected: &BTreeMap<KeyHash, GuardrailId>,
    ) -> Result<BTreeSet<KeyHash>, Error> {
        let mut missing: BTreeSet<KeyHash> = expected.keys().cloned().collect();
        let guardrails: BTreeSet<&GuardrailId> = expected.values().collect();
        // The list of one guardrail is shorter than the list of all guardrails.
        let path = match Vec::from_iter(guardrails).as_slice() {
            [] => return Ok(missing),
            [only] => format!("/guardrails/{only}/assignments/keys"),
            _ => "/guardrails/assignments/keys".to_owned(),
        };
        let visited = self.each_page(&path, |page| {
            for row in page.rows::<Row>() {
                if expected.get(&row.key_hash) == Some(&row.guardrail_id) {
                    missing.remove(&row.key_hash);
                }
            }
            if missing.is_empty() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        match visited.await {
            Ok(()) => Ok(missing),
            // The guardrail is gone, and so are its assignments.
            Err(Error::NotFound { .. }) => Ok(expected.keys().cloned().collect()),
            Err(reason) => Err(reason),
        }
    }
}
