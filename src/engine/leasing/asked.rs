//! Reads of a dynamic role that ask for less than the role allows.

use crate::engine::error::Error;
use crate::engine::names::RoleName;
use crate::engine::role::dynamic::DynamicRole;
use crate::framework::{Field, Fields};
use crate::openrouter::Usd;

/// What a reader asks for; `None` means the role's own value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Asked {
    /// US dollars.
    limit: Option<f64>,
    /// Seconds.
    ttl: Option<u64>,
}

impl Asked {
    /// Reads the request's fields.
    pub fn of(fields: &Fields) -> Self {
        Self {
            limit: fields.number("limit"),
            ttl: fields.seconds("ttl"),
        }
    }

    /// Rejects such a request for a rotating role, whose key is shared by all readers.
    ///
    /// # Errors
    /// [`Error::Invalid`] if anything is asked for.
    pub fn require_nothing(self, name: &RoleName) -> Result<(), Error> {
        if self == Self::default() {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "limit and ttl can only be requested from a dynamic role; role {:?} is rotating, and \
             all its readers share one key",
            name.to_string()
        )))
    }

    /// The role with the limits that this reader gets.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the reader asks for more than the role allows.
    pub fn narrow(self, mut role: DynamicRole) -> Result<DynamicRole, Error> {
        if let Some(limit) = self.limit {
            let most = role.terms.limits.limit;
            let asked = Usd::positive(limit).ok();
            let asked = asked.filter(|asked| most.is_none_or(|most| *asked <= most));
            role.terms.limits.limit = Some(asked.ok_or_else(|| {
                let at_most = most.map_or_else(String::new, |most| {
                    format!(" and at most {most}, the role's limit")
                });
                Error::Invalid(format!("limit must be more than 0 US dollars{at_most}"))
            })?);
        }
        if let Some(ttl) = self.ttl {
            if !(1..=role.ttl).contains(&ttl) {
                return Err(Error::Invalid(format!(
                    "ttl must be at least 1 second and at most {}, the role's ttl",
                    role.ttl
                )));
            }
            role.ttl = ttl;
        }
        Ok(role)
    }
}

/// The fields of a read.
pub const ASKED: &[Field] = &[
    Field::number(
        "limit",
        "How much the key of this lease may spend, in US dollars. At most the role's limit. Only\n\
         for dynamic roles.",
    )
    .default("the role's limit"),
    Field::duration(
        "ttl",
        "The duration of this lease. At most the role's ttl. Only for dynamic roles.",
    )
    .default("the role's ttl"),
];
