//! A role's name, and where the role of that name is stored.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::error::Error;
use crate::framework::{Fields, is_name};

/// A role's name, a segment of its path.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct RoleName(String);

impl RoleName {
    /// A name from a segment of a path; `None` if it is not a valid one.
    pub fn new(name: &str) -> Option<Self> {
        is_name(name).then(|| Self(name.to_owned()))
    }

    /// The role that a request's path names.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the path contains no name.
    pub fn of_path(fields: &Fields) -> Result<Self, Error> {
        fields
            .text("name")
            .and_then(Self::new)
            .ok_or_else(|| Error::invalid("the path must name a role"))
    }

    /// Where the role is stored.
    pub fn key(&self) -> String {
        [PREFIX, &self.0].concat()
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where roles are stored.
pub const PREFIX: &str = "roles/";
