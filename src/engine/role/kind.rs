//! The two kinds of roles: the values of `credential_type`.

use std::fmt;
use std::str::FromStr;

use crate::engine::error::Error;
use crate::framework::{Field, Fields};

/// What a role hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One key that all readers share, replaced on a schedule.
    Rotating,
    /// One key per lease.
    Dynamic,
}

impl Kind {
    /// The kind of the role that is written.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown kind, and for a kind other than the role's.
    pub fn of_write(before: Option<Self>, fields: &Fields) -> Result<Self, Error> {
        let given = fields.text("credential_type").map(str::parse).transpose()?;
        match (before, given) {
            (Some(before), Some(given)) if before != given => Err(Error::Invalid(format!(
                "credential_type is fixed at creation; this role is {before}"
            ))),
            (before, given) => Ok(before.or(given).unwrap_or(Self::Rotating)),
        }
    }

    /// Rejects fields that only the other kind has. A null value is allowed.
    ///
    /// # Errors
    /// [`Error::Invalid`], with the field.
    pub fn refuse(self, foreign: &[Field], fields: &Fields) -> Result<(), Error> {
        let given = foreign
            .iter()
            .map(|field| field.name)
            .find(|name| fields.has(name) && !fields.is_null(name));
        let Some(name) = given else {
            return Ok(());
        };
        let other = match self {
            Self::Rotating => Self::Dynamic,
            Self::Dynamic => Self::Rotating,
        };
        Err(Error::Invalid(format!(
            "{name} applies only to {other} roles; this one is {self}"
        )))
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "rotating" => Ok(Self::Rotating),
            "dynamic" => Ok(Self::Dynamic),
            _ => Err(Error::invalid(
                "credential_type must be rotating or dynamic",
            )),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rotating => "rotating",
            Self::Dynamic => "dynamic",
        })
    }
}

/// The field `credential_type`.
pub const FIELD: Field = Field::text(
    "credential_type",
    "rotating: one key that all readers share, replaced on a schedule. dynamic: a separate key\n\
     for every lease. Cannot be changed after creation.",
)
.one_of(&["rotating", "dynamic"])
.default("rotating");
