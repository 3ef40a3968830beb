//! The tasks of an engine's keeper.

use crate::engine::names::{ConnectionName, Nonce, Place, RoleName, RunId};

/// A task of the keeper.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Task {
    /// A role: its rotations and revocations.
    Tend(RoleName),
    /// A place with intents whose outcome is unknown.
    Recover(Place),
    /// A lease that the server should have ended by now.
    Lapse(Nonce),
    /// A connection, whose keys are compared with those at OpenRouter.
    Reconcile(ConnectionName),
    /// A job that takes longer than a request may.
    Run(RunId),
}
