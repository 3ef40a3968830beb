//! Resolves what is stored of a connection after a failed write.

use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::ConnectionName;
use crate::logical::{Entry, StorageError};

/// Completes a change of a connection, whose lock is held. A change that reported failure may still have been
/// committed, and the server's cache does not learn of that. In this case the value that is read here is
/// stored again, so that the next leader finds the same bounds, and the same connection that roles were
/// written with in the meantime.
///
/// # Errors
/// The error of the change.
pub(in crate::engine::paths) async fn settle(
    engine: &Engine,
    name: &ConnectionName,
    changed: Result<(), Error>,
) -> Result<(), Error> {
    // A node that may not write has stored nothing. The server forwards the request to the active node.
    let refused = |reason: &Error| matches!(reason, Error::Storage(StorageError::ReadOnly));
    if changed.as_ref().is_err_and(|reason| !refused(reason)) {
        let key = name.key();
        let again = match engine.storage.get(&key).await {
            Ok(Some(value)) => engine.storage.put(Entry { key, value }).await,
            Ok(None) => engine.storage.delete(&key).await,
            Err(reason) => Err(reason),
        };
        if let Err(reason) = again {
            tracing::warn!(
                mount = engine.mount,
                connection = %name,
                %reason,
                "the stored state of a connection is unclear; write it again"
            );
        }
    }
    engine.links.forget(name).await;
    changed
}
