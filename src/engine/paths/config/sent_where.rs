//! Where stored keys may be sent after a write of a connection.

use crate::engine::connection::Connection;
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::keys::Holdings;
use crate::engine::names::{Address, ConnectionName};
use crate::framework::Fields;

/// The address of a connection that does not exist yet. If roles still have keys of an earlier connection of that
/// name, it is another one: whoever forgot that connection did not say that its keys may be sent here.
///
/// # Errors
/// Errors from storage.
pub(super) async fn first(engine: &Engine, name: &ConnectionName) -> Result<Address, Error> {
    let holdings = Holdings::of(engine).await?;
    let is_left = !holdings.users_of(name).is_empty() || !holdings.unreadable.is_empty();
    let first = Address::default();
    Ok(if is_left {
        first.moved(false, &*engine.randomness)
    } else {
        first
    })
}

/// The address of a connection after a write, before anything is sent. Stored keys are not sent to a new one
/// unless the request contains the stored management key.
///
/// # Errors
/// [`Error::Invalid`] if the address is changed and the request contains no management key.
pub(super) fn written(
    engine: &Engine,
    before: &Connection,
    after: &Connection,
    fields: &Fields,
) -> Result<Address, Error> {
    if after.has_address_of(before) {
        return Ok(before.address.clone());
    }
    if fields.secret("management_key").is_none() {
        return Err(Error::invalid(
            "management_key is required to change api_url, proxy_url or ca_certificate: a stored \
             key is sent only to the address it was written for",
        ));
    }
    let with_stored_key = after.has_key_of(before);
    Ok(before.address.moved(with_stored_key, &*engine.randomness))
}

/// The address of a connection after a write that was checked. If the management key was replaced, and was not
/// shown to see the managed keys, whoever wrote it may not know the one before. With the next write they could
/// bring the stored key along, which is then theirs.
pub(super) fn checked(
    engine: &Engine,
    before: Option<&Connection>,
    after: &Connection,
    sees_managed_keys: bool,
) -> Address {
    match before {
        Some(before)
            if !sees_managed_keys && after.has_address_of(before) && !after.has_key_of(before) =>
        {
            before.address.with_unproved_key(&*engine.randomness)
        }
        _ => after.address.clone(),
    }
}
