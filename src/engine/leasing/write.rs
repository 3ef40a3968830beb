//! Writing, showing and deleting a dynamic role. No key is made or revoked by that.

use serde_json::json;

use crate::engine::context::{Engine, RoleGuard};
use crate::engine::error::Error;
use crate::engine::names::{Life, RoleName};
use crate::engine::role::capped;
use crate::engine::role::dynamic::DynamicRole;
use crate::framework::Fields;
use crate::logical::{Data, Response};

/// Creates or changes a role. Returns the warnings that it earned.
///
/// # Errors
/// The user's mistakes, and storage's own.
pub async fn write(
    guard: &RoleGuard<'_>,
    before: Option<&DynamicRole>,
    fields: &Fields,
) -> Result<Vec<String>, Error> {
    let (engine, name) = (guard.engine(), guard.name());
    let mut role = DynamicRole::apply(name, before, fields)?;
    if before == Some(&role) {
        return Ok(Vec::new());
    }
    if before.is_none() {
        role.life = Life::new(&*engine.randomness);
    }
    // Until the role is stored, so that the connection cannot be deleted in between.
    let _in_use = engine.links.use_for_making(&role.terms.connection)?;
    engine.require_connection(&role.terms.connection).await?;
    let mut warnings = Vec::new();
    let longest = capped(role.max_ttl, engine.system.max_lease_ttl().await?);
    if longest < role.max_ttl {
        warnings.push(format!(
            "max_ttl of {} seconds is more than the mount's maximum lease duration, so leases end \
             after {longest} seconds",
            role.max_ttl
        ));
    }
    if role.terms.limits.limit.is_some()
        && before.is_none_or(|b| b.terms.limits != role.terms.limits)
    {
        warnings.push(LIMIT_IS_PER_LEASE.to_owned());
    }
    guard.store_dynamic(&role).await?;
    if before.is_some_and(|before| before.terms != role.terms) {
        let living = engine.books().await?.leases.of_role(name);
        if living > 0 {
            warnings.push(format!(
                "{living} keys under leases stay as they were made; what was written takes effect \
                 with the next lease"
            ));
        }
    }
    Ok(warnings)
}

/// What a read of the role answers.
pub fn status(engine: &Engine, name: &RoleName, role: &DynamicRole) -> Response {
    let mut data = Data::new();
    role.terms.show(&mut data);
    // A node that only serves reads does not know.
    let books = engine.books_if_open();
    let living = books.map(|books| books.leases.of_role(name));
    data.extend([
        ("credential_type".to_owned(), "dynamic".into()),
        ("ttl".to_owned(), role.ttl.into()),
        ("max_ttl".to_owned(), role.max_ttl.into()),
        ("max_leases".to_owned(), json!(role.max_leases)),
        ("living_leases".to_owned(), json!(living)),
    ]);
    Response::with_data(data)
}

/// Forgets the role. Its leases stay: each can still be revoked, and ends at its time.
///
/// # Errors
/// Storage's own.
pub async fn delete(guard: &RoleGuard<'_>) -> Result<Option<Response>, Error> {
    let books = guard.engine().books().await?;
    guard.forget().await?;
    let living = books.leases.of_role(guard.name());
    Ok((living > 0).then(|| {
        Response::default().with_warnings([format!(
            "{living} leases of the role are alive; they cannot be renewed any more, stay \
             revocable, and their keys are deleted when they end"
        )])
    }))
}

const LIMIT_IS_PER_LEASE: &str = "\
    limit is a limit of each key: every lease begins with the full amount; max_leases limits how \
    many there are at a time";
