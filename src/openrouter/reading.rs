//! Parses successful answers, by request.
//!
//! Each method of an [`Answer`] here is for one call of [`Client`](super::Client). No returned label
//! contains the secret that it stands for, whatever OpenRouter sends: labels are stored and shown.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::answer::Answer;
use super::error::Error;
use super::identifiers::KeyHash;
use super::keys::{CreateAnswer, CreatedKey, CurrentKey, Deletion, Key};
use super::quote::Hidden;

impl Answer {
    /// Of `POST /keys`.
    ///
    /// # Errors
    /// Also [`Error::Unclear`] for a success without a usable secret.
    pub(super) fn created_key(self) -> Result<CreatedKey, Error> {
        let mut created = self
            .read::<CreateAnswer>()?
            .into_created_key()
            .ok_or_else(|| Error::unclear("the answer to a creation contains no usable key"))?;
        created.key.label = Hidden::of([created.secret.clone()]).label(&created.key.label);
        Ok(created)
    }

    /// Of `GET /key`.
    pub(super) fn current_key(self) -> Result<CurrentKey, Error> {
        let hidden = self.hidden.clone();
        let mut key = self.read::<Enveloped<CurrentKey>>()?.data;
        key.label = hidden.label(&key.label);
        Ok(key)
    }

    /// Of `GET /keys/{hash}` and `PATCH /keys/{hash}`.
    ///
    /// # Errors
    /// Also [`Error::Unclear`] for an answer about another key.
    pub(super) fn key(self, hash: &KeyHash) -> Result<Key, Error> {
        let key = self.read::<Enveloped<Key>>()?.data;
        if key.hash == *hash {
            Ok(key)
        } else {
            Err(Error::unclear("the answer is about another key"))
        }
    }

    /// Of any request for one object: a guardrail, a workspace.
    ///
    /// # Errors
    /// Those of [`Answer::read`].
    pub(super) fn data<T: DeserializeOwned>(self) -> Result<T, Error> {
        Ok(self.read::<Enveloped<T>>()?.data)
    }

    /// Of `GET /keys/{hash}`, to be parsed leniently.
    pub(super) fn whole_key(self) -> Result<Value, Error> {
        Ok(self.read::<Enveloped<Value>>()?.data)
    }

    /// Of `GET /keys`: the keys, to be parsed one by one.
    pub(super) fn keys(self) -> Result<Vec<Value>, Error> {
        Ok(self.read::<Enveloped<Vec<Value>>>()?.data)
    }

    /// Of `DELETE /keys/{hash}`. A key that does not exist counts as a success.
    pub(super) fn deletion(self) -> Result<Deletion, Error> {
        match self.read() {
            Ok(Deleted { deleted: true }) => Ok(Deletion::Deleted),
            Ok(Deleted { deleted: false }) => Err(Error::unclear(
                "the answer to a deletion says that nothing was deleted",
            )),
            Err(Error::NotFound { .. }) => Ok(Deletion::AlreadyGone),
            Err(error) => Err(error),
        }
    }
}

/// Every answer has this envelope.
#[derive(Deserialize)]
struct Enveloped<T> {
    data: T,
}

#[derive(Deserialize)]
struct Deleted {
    deleted: bool,
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;
    use secrecy::{ExposeSecret, SecretString};
    use serde_json::json;

    use super::*;
    use crate::openrouter::Bearer;

    fn answer(body: &Value) -> Answer {
        Answer {
            status: StatusCode::OK,
            retry_after: None,
            body: Ok(body.to_string().into_bytes()),
            bearer: Bearer::ApiKey,
            hidden: Hidden::of([SecretString::from("sk-or-v1-planted")]),
        }
    }

    #[test]
    fn a_label_that_is_the_whole_secret_is_not_kept() {
        let hash = "8b2ab1b1c1a8f4a5b7d7e6f5a4b3c2d1e0f9e8d7c6b5a4938271605f4e3d2c1b";
        let data = json!({"hash": hash, "label": "sk-or-v1-fresh"});
        let created = answer(&json!({"key": "sk-or-v1-fresh", "data": data}));
        let created = created.created_key().unwrap();
        assert_eq!(created.secret.expose_secret(), "sk-or-v1-fresh");
        assert_eq!(created.key.label, "[redacted]");

        let current = answer(&json!({"data": {"label": "sk-or-v1-planted"}}));
        assert_eq!(current.current_key().unwrap().label, "[redacted]");
    }
}
