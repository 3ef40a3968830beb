//! The tasks of an engine's keeper.

use crate::engine::names::{ConnectionName, Nonce, Place, RoleName, RunId};

/// What the keeper looks after.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Task {
    /// A role: its rotations and revocations.
    Tend(RoleName),
    /// A place where intents are adrift.
    Recover(Place),
    /// A lease that the server must have ended.
    Lapse(Nonce),
    /// A connection: what is managed through it is compared with what is at OpenRouter.
    Reconcile(ConnectionName),
    /// A job that takes longer than a request may.
    Run(RunId),
}
