//! The end of a key at OpenRouter.

use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::ConnectionName;
use crate::openrouter::KeyHash;

/// Deletes a key at OpenRouter; one that is not there any more is as good.
pub async fn delete_key(
    engine: &Engine,
    connection: &ConnectionName,
    hash: &KeyHash,
) -> Result<(), Error> {
    let link = engine.links.open(&*engine.storage, connection).await?;
    let deleted = link.client().await.delete_key(hash).await;
    deleted.map_err(Error::while_doing(format!(
        "key {hash} could not be revoked"
    )))?;
    Ok(())
}
