//! The names of a mount's long jobs, and where each is stored.

use std::fmt;

use super::connection::ConnectionName;

/// A run: a job that takes longer than a request may. Only one of each kind runs at a time. The last one is
/// kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RunId {
    /// Every role of a connection gets a new key.
    RotateAll(ConnectionName),
    /// Keys of this mount that belong to nobody are removed.
    Tidy(ConnectionName),
    /// Every key of the mount is revoked.
    Teardown,
}

impl RunId {
    /// The run that is stored under this name below [`PREFIX`].
    pub fn of_entry(name: &str) -> Option<Self> {
        if name == TEARDOWN {
            return Some(Self::Teardown);
        }
        let (kind, connection) = name.split_once('.')?;
        let connection = ConnectionName::parse(connection).ok()?;
        match kind {
            ROTATE_ALL => Some(Self::RotateAll(connection)),
            TIDY => Some(Self::Tidy(connection)),
            _ => None,
        }
    }

    /// Where it is stored.
    pub fn key(&self) -> String {
        match self {
            Self::RotateAll(connection) => format!("{PREFIX}{ROTATE_ALL}.{connection}"),
            Self::Tidy(connection) => format!("{PREFIX}{TIDY}.{connection}"),
            Self::Teardown => format!("{PREFIX}{TEARDOWN}"),
        }
    }
}

impl fmt::Display for RunId {
    /// As its path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RotateAll(connection) => write!(f, "{ROTATE_ALL}/{connection}"),
            Self::Tidy(connection) => write!(f, "{TIDY}/{connection}"),
            Self::Teardown => f.write_str(TEARDOWN),
        }
    }
}

/// Where runs are stored.
pub const PREFIX: &str = "runs/";
const ROTATE_ALL: &str = "rotate-all";
const TIDY: &str = "tidy";
const TEARDOWN: &str = "teardown";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_found_by_where_it_is_stored() {
        let connection = ConnectionName::parse("eu.west").unwrap();
        for run in [
            RunId::RotateAll(connection.clone()),
            RunId::Tidy(connection),
            RunId::Teardown,
        ] {
            let name = run.key();
            let name = name.strip_prefix(PREFIX).unwrap();
            assert_eq!(RunId::of_entry(name), Some(run));
        }
        for name in [
            "",
            "tidy",
            "tidy.",
            "tidy.a/b",
            "other.default",
            "teardown.default",
        ] {
            assert_eq!(RunId::of_entry(name), None, "{name}");
        }
    }
}
