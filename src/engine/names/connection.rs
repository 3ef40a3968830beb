//! A connection's name, and where the connection of that name is stored.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::error::Error;
use crate::framework::is_name;

/// A connection's name, a segment of its path.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct ConnectionName(String);

impl ConnectionName {
    /// Parses a name from a segment of a path, or from a field.
    ///
    /// # Errors
    /// If it is not a valid segment of a path.
    pub fn parse(name: &str) -> Result<Self, Error> {
        if is_name(name) {
            Ok(Self(name.to_owned()))
        } else {
            Err(Error::invalid(
                "connection must be the name of a connection: letters, digits and _, with - and . \
                 inside",
            ))
        }
    }

    /// Where it is stored.
    pub fn key(&self) -> String {
        format!("{PREFIX}{self}")
    }
}

impl Default for ConnectionName {
    /// The connection that `config` without a name refers to.
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl fmt::Display for ConnectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where connections are stored.
pub const PREFIX: &str = "config/";
