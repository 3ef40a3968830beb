//! A reader of a dynamic role who asks for less than the role allows.

use crate::engine::error::Error;
use crate::engine::names::RoleName;
use crate::engine::role::dynamic::DynamicRole;
use crate::framework::{Field, Fields};
use crate::openrouter::Usd;

/// What a reader asks for, as far as they say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Asked {
    /// US dollars.
    limit: Option<f64>,
    /// Seconds.
    ttl: Option<u64>,
}

impl Asked {
    /// Reads it from a call.
    pub fn of(fields: &Fields) -> Self {
        Self {
            limit: fields.number("limit"),
            ttl: fields.seconds("ttl"),
        }
    }

    /// Refuses it of a rotating role, whose key is everybody's.
    ///
    /// # Errors
    /// [`Error::Invalid`] if anything is asked for.
    pub fn require_nothing(self, name: &RoleName) -> Result<(), Error> {
        if self == Self::default() {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "limit and ttl can be asked for only of a dynamic role; role {:?} is rotating, and its key \
             is the same for every reader",
            name.to_string()
        )))
    }

    /// The role as it is for this reader.
    ///
    /// # Errors
    /// [`Error::Invalid`] for more than the role allows.
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

/// What a read takes.
pub const ASKED: &[Field] = &[
    Field::number(
        "limit",
        "What the key of this lease may spend, in US dollars: at most what the role allows. Only of a\n\
         dynamic role.",
    )
    .default("the role's limit"),
    Field::duration(
        "ttl",
        "How long this lease is: at most the role's ttl. Only of a dynamic role.",
    )
    .default("the role's ttl"),
];
