//! A connection's name, and where the connection of that name is stored.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::engine::error::Error;
use crate::framework::is_name;

/// A connection's name, a segment of its path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConnectionName(String);

impl ConnectionName {
    /// A name that came as a segment of a path, or as a field.
    ///
    /// # Errors
    /// When it could not be a segment of a path.
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
    /// The connection behind the bare path `config`.
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
