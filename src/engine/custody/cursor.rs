//! The position from which a partial inventory continues.

use std::fmt;
use std::str::FromStr;

use crate::engine::error::Error;
use crate::openrouter::{KeyHash, Walk, WorkspaceId};

/// A position: a workspace, and a key in it. Its text is opaque to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// `None` if the account lists no workspaces.
    pub workspace: Option<WorkspaceId>,
    /// The last key that was shown, and its position; `None` is the beginning.
    pub last: Option<(usize, KeyHash)>,
}

impl Cursor {
    /// The beginning of a workspace.
    pub fn beginning_of(workspace: Option<WorkspaceId>) -> Self {
        let last = None;
        Self { workspace, last }
    }

    /// The walk from this position.
    pub fn walk(&self) -> Walk {
        let workspace = self.workspace.clone();
        match &self.last {
            None => Walk::through(workspace),
            Some((position, hash)) => Walk::after(workspace, hash, *position),
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.workspace {
            Some(id) => write!(f, "{id}")?,
            None => f.write_str(DEFAULT)?,
        }
        match &self.last {
            Some((position, hash)) => write!(f, ".{position}.{hash}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text)
            .ok_or_else(|| Error::invalid("after must be the value of next in an earlier answer"))
    }
}

fn parse(text: &str) -> Option<Cursor> {
    let mut parts = text.split('.');
    let workspace = match parts.next()? {
        DEFAULT => None,
        id => Some(WorkspaceId::parse(id).ok()?),
    };
    let last = match (parts.next(), parts.next(), parts.next()) {
        (None, None, None) => None,
        (Some(position), Some(hash), None) => {
            Some((position.parse().ok()?, KeyHash::parse(hash).ok()?))
        }
        _ => return None,
    };
    Some(Cursor { workspace, last })
}

const DEFAULT: &str = "default";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is() {
        let id = "0f8fad5b-d9cb-469f-a165-70867728950e";
        let hash = "a".repeat(64);
        for text in [
            "default".to_owned(),
            id.to_owned(),
            format!("default.0.{hash}"),
            format!("{id}.4711.{hash}"),
        ] {
            let cursor: Cursor = text.parse().unwrap();
            assert_eq!(cursor.to_string(), text);
        }
        for text in [
            "",
            "x",
            "default.1",
            "default.1.x",
            "default.-1.a",
            "..",
            &hash,
        ] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
        let long = format!("default.1.{hash}.x");
        assert!(long.parse::<Cursor>().is_err());
    }
}
