//! An engine's answer.

use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::{Data, Error};

/// The answer to a request. No answer at all means 404 for a read, and 204 for a write.
#[derive(Clone, Default, PartialEq)]
pub struct Response {
    /// The fields. A lone field `error` would make it an error; use [`super::Error::Invalid`] for that.
    pub data: Data,
    /// What is sent instead of `data`, which is then empty.
    pub rendered: Option<Rendered>,
    /// A lease on the fields; the server stores both.
    pub secret: Option<Secret>,
    /// Shown to the user unchanged.
    pub warnings: Vec<String>,
}

impl Response {
    /// An answer with these fields.
    pub fn with_data(data: Data) -> Self {
        Self {
            data,
            ..Self::default()
        }
    }

    /// An answer whose fields were rendered before.
    pub fn with_rendered(fields: Rendered) -> Self {
        Self {
            rendered: Some(fields),
            ..Self::default()
        }
    }

    /// An answer whose fields are the fields of this structure.
    ///
    /// # Errors
    /// [`Error::Internal`] if it is not a structure, or cannot be converted to JSON.
    pub fn showing(view: &impl Serialize) -> Result<Self, Error> {
        match serde_json::to_value(view) {
            Ok(serde_json::Value::Object(data)) => Ok(Self::with_data(data)),
            Ok(_) => Err(Error::internal("an answer is not an object")),
            Err(reason) => Err(Error::internal(reason.to_string())),
        }
    }

    /// An answer that the server passes on as it is, with this content type, instead of wrapping it in
    /// JSON. It cannot carry a secret.
    pub fn raw(content_type: &str, body: &str) -> Self {
        // The server tries to decode it first.
        let body = BASE64_STANDARD.encode(body);
        Self::with_data(Data::from_iter([
            ("http_status_code".to_owned(), 200.into()),
            ("http_content_type".to_owned(), content_type.into()),
            ("http_raw_body".to_owned(), body.into()),
        ]))
    }

    /// The same answer with more warnings.
    pub fn with_warnings(mut self, warnings: impl IntoIterator<Item = String>) -> Self {
        self.warnings.extend(warnings);
        self
    }

    /// The same answer with `data` and internal data as fields, for callers that read them here instead of
    /// sending them.
    pub fn unfolded(mut self) -> Self {
        if let Some(rendered) = self.rendered.take() {
            self.data = rendered.fields();
        }
        self.secret = self.secret.map(Secret::unfolded);
        self
    }
}

impl std::fmt::Debug for Response {
    /// Shows the fields' names only: their values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response")
            .field("fields", &self.data.keys().collect::<Vec<_>>())
            .field("rendered", &self.rendered)
            .field("secret", &self.secret)
            .field("warnings", &self.warnings)
            .finish()
    }
}

/// A secret that the server puts under a lease.
#[derive(Clone, PartialEq)]
pub struct Secret {
    /// The terms of the lease.
    pub lease: Lease,
    /// What the engine needs again for renewal and revocation.
    pub internal_data: Data,
    /// What is sent instead of `internal_data`, which is then empty.
    pub rendered: Option<Rendered>,
}

impl Secret {
    /// The same secret with its internal data as fields.
    pub fn unfolded(mut self) -> Self {
        if let Some(rendered) = self.rendered.take() {
            self.internal_data = rendered.fields();
        }
        self
    }
}

impl std::fmt::Debug for Secret {
    /// Shows no internal data: it may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret")
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

/// The terms of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The duration; zero means the mount's default.
    pub ttl: Duration,
    /// The longest duration after renewals; zero means the mount's maximum.
    pub max_ttl: Duration,
    /// Whether it can be renewed.
    pub renewable: bool,
}

/// A JSON object as text, for what is sent many times and rendered once. A clone copies nothing. It may
/// contain secrets.
#[derive(Clone, Debug)]
pub struct Rendered(Arc<SecretString>);

impl Rendered {
    /// The fields of this structure.
    ///
    /// # Errors
    /// [`Error::Internal`] if it cannot be converted to JSON.
    pub fn showing(view: &impl Serialize) -> Result<Self, Error> {
        let text = serde_json::to_string(view);
        let text = text.map_err(|reason| Error::internal(reason.to_string()))?;
        Ok(Self(Arc::new(text.into())))
    }

    /// The text.
    pub fn text(&self) -> &str {
        self.0.expose_secret()
    }

    /// The fields one by one. Text that is not an object has none.
    pub fn fields(&self) -> Data {
        serde_json::from_str(self.text()).unwrap_or_default()
    }
}

impl From<Data> for Rendered {
    fn from(fields: Data) -> Self {
        let text = serde_json::Value::Object(fields).to_string();
        Self(Arc::new(text.into()))
    }
}

impl PartialEq for Rendered {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}
