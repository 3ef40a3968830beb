//! The bounds that a connection sets for its roles, no matter who may write them: which roles may use it,
//! what their keys may spend, and how long the keys may live.

use serde::{Deserialize, Serialize};

use crate::engine::error::Error;
use crate::engine::names::{ConnectionName, RoleName};
use crate::openrouter::Usd;

/// The bounds of a connection. By default there are none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// The names of the roles that may use it, with `*` for any text.
    pub allowed_roles: Vec<String>,
    /// The highest limit or budget of a role; `None` allows any, or none.
    pub max_limit: Option<Usd>,
    /// The longest lifetime of a key, in seconds; `None` allows any.
    pub max_key_lifetime: Option<u64>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            allowed_roles: vec![ANY.to_owned()],
            max_limit: None,
            max_key_lifetime: None,
        }
    }
}

impl Bounds {
    /// Whether there are no bounds.
    pub fn are_open(&self) -> bool {
        *self == Self::default()
    }

    /// These bounds as far as they are tighter than those `before`; open where they are not.
    #[must_use]
    pub fn tightened(&self, before: &Self) -> Self {
        let open = Self::default();
        // What a new pattern matches as text, with its stars, it matches with any text in their place.
        let is_matched = |old: &String| self.allowed_roles.iter().any(|new| matches(new, old));
        Self {
            allowed_roles: if before.allowed_roles.iter().all(is_matched) {
                open.allowed_roles
            } else {
                self.allowed_roles.clone()
            },
            max_limit: self
                .max_limit
                .filter(|new| before.max_limit.is_none_or(|old| *new < old)),
            max_key_lifetime: (self.max_key_lifetime)
                .filter(|new| before.max_key_lifetime.is_none_or(|old| *new < old)),
        }
    }

    /// Checks a role with this name whose keys have this limit and live this many seconds.
    ///
    /// # Errors
    /// [`Error::Invalid`], with what exceeds the bounds.
    pub fn check_role(
        &self,
        connection: &ConnectionName,
        role: &RoleName,
        limit: Option<Usd>,
        lifetime: Option<u64>,
    ) -> Result<(), Error> {
        self.check_order(connection, role, limit)?;
        let Some(longest) = self.max_key_lifetime else {
            return Ok(());
        };
        let lives = match lifetime {
            Some(seconds) if seconds <= longest => return Ok(()),
            Some(seconds) => format!("would live {seconds} seconds"),
            None => "would never expire".to_owned(),
        };
        Err(Error::Invalid(format!(
            "connection {:?} allows keys that live at most {longest} seconds (max_key_lifetime); \
             the keys of role {:?} {lives}; set key_max_lifetime on a rotating role, or max_ttl \
             on a dynamic one, to which 300 seconds are added",
            connection.to_string(),
            role.to_string()
        )))
    }

    /// Checks that the role may use the connection.
    ///
    /// # Errors
    /// [`Error::Invalid`], with the roles that may use it.
    pub fn check_name(&self, connection: &ConnectionName, role: &RoleName) -> Result<(), Error> {
        let (connection, role) = (connection.to_string(), role.to_string());
        if self.allowed_roles.iter().any(|one| matches(one, &role)) {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "connection {connection:?} does not allow role {role:?}; its allowed_roles are {}",
            self.allowed_roles.join(", ")
        )))
    }

    /// Checks what can exceed the bounds when a key is made, except the lifetime, which is shortened.
    ///
    /// # Errors
    /// [`Error::Invalid`], with what exceeds the bounds.
    pub fn check_order(
        &self,
        connection: &ConnectionName,
        role: &RoleName,
        limit: Option<Usd>,
    ) -> Result<(), Error> {
        self.check_name(connection, role)?;
        let (connection, role) = (connection.to_string(), role.to_string());
        let Some(most) = self.max_limit else {
            return Ok(());
        };
        let wants = match limit {
            Some(limit) if limit <= most => return Ok(()),
            Some(limit) => format!("{limit} US dollars"),
            None => "no limit".to_owned(),
        };
        Err(Error::Invalid(format!(
            "connection {connection:?} allows a limit of at most {most} US dollars (max_limit), \
             and role {role:?} has {wants}"
        )))
    }
}

/// Whether a name matches a pattern with `*` for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((begin, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut left) = name.strip_prefix(begin) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        match left.find(part) {
            Some(at) => left = left.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    left.ends_with(end)
}

/// Every name.
const ANY: &str = "*";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, fits) in [
            ("*", "app", true),
            ("app", "app", true),
            ("app", "app-1", false),
            ("team-a-*", "team-a-app", true),
            ("team-a-*", "team-a-", true),
            ("team-a-*", "team-b-app", false),
            ("*-app", "team-app", true),
            ("*-app", "team-app-2", false),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("", "app", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn only_what_is_tighter_than_before_is_tightened() {
        let bounds = |roles: &[&str], limit: Option<f64>, lifetime| Bounds {
            allowed_roles: roles.iter().map(ToString::to_string).collect(),
            max_limit: limit.map(|limit| Usd::new(limit).unwrap()),
            max_key_lifetime: lifetime,
        };
        let before = bounds(&["app", "team-*"], Some(5.0), Some(60));
        for looser in [
            before.clone(),
            bounds(&["team-*", "ci", "app"], Some(6.0), Some(61)),
            bounds(&["a*", "t*-*"], None, None),
            Bounds::default(),
        ] {
            assert!(looser.tightened(&before).are_open(), "{looser:?}");
        }
        for (after, tightened) in [
            (
                bounds(&["*"], Some(4.0), Some(61)),
                bounds(&["*"], Some(4.0), None),
            ),
            (
                bounds(&["app", "team-*"], None, Some(59)),
                bounds(&["*"], None, Some(59)),
            ),
            (
                bounds(&["app", "team-a-*"], Some(5.0), Some(60)),
                bounds(&["app", "team-a-*"], None, None),
            ),
        ] {
            assert_eq!(after.tightened(&before), tightened);
        }
        let first = bounds(&["app"], Some(5.0), Some(60));
        assert_eq!(first.tightened(&Bounds::default()), first);
    }

    #[test]
    fn what_is_beyond_them_is_refused_and_named() {
        let bounds = Bounds {
            allowed_roles: vec!["team-*".to_owned()],
            max_limit: Some(Usd::new(5.0).unwrap()),
            max_key_lifetime: Some(3_600),
        };
        let check = |role: &str, limit: Option<f64>, lifetime| {
            let limit = limit.map(|limit| Usd::new(limit).unwrap());
            let role = RoleName::new(role).unwrap();
            let checked = bounds.check_role(&ConnectionName::default(), &role, limit, lifetime);
            checked.map_err(|reason| reason.to_string())
        };
        assert_eq!(check("team-a", Some(5.0), Some(3_600)), Ok(()));
        for (role, limit, lifetime, reason) in [
            ("other", Some(5.0), Some(60), "allowed_roles are team-*"),
            ("team-a", Some(5.01), Some(60), "at most 5 US dollars"),
            ("team-a", None, Some(60), "has no limit"),
            ("team-a", Some(1.0), Some(3_601), "would live 3601 seconds"),
            ("team-a", Some(1.0), None, "would never expire"),
        ] {
            let refusal = check(role, limit, lifetime).unwrap_err();
            assert!(refusal.contains(reason), "{refusal}");
        }
    }
}
