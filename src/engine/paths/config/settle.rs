//! What is stored of a connection after a change that failed by its answer.

use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::ConnectionName;
use crate::logical::{Entry, StorageError};

/// Ends a change of a connection, whose lock is held. One that failed by its answer may have been committed
/// all the same, of which the server's cache does not learn: then what is read here is stored again, so that
/// the next leader finds the same bounds, and the connection that roles were written with meanwhile.
///
/// # Errors
/// That of the change.
pub(super) async fn settle(
    engine: &Engine,
    name: &ConnectionName,
    changed: Result<(), Error>,
) -> Result<(), Error> {
    // What a server refuses that may not write at all is not stored; it has the active one do it.
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
                "it is unclear what is stored of a connection; write it again"
            );
        }
    }
    engine.links.forget(name).await;
    changed
}
