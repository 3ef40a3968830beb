//! The paths `creds/:name` and `static-creds/:name`: handing out the current key.
//!
//! A read costs one storage call and no call to OpenRouter. What it promises is in [`Handout`].

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::ExposeSecret;

use super::clock::seconds_until;
use super::error::Error;
use super::role::{Role, RoleName};
use super::state::Engine;
use crate::framework::{Call, Endpoint, Outcome, Path, SecretType, leased};
use crate::logical::{Data, Lease, LeasedSecret, Operation, Response};

/// Both paths.
pub fn paths() -> Vec<Path<Engine>> {
    let leased = Path::new("creds/:name", "credentials")
        .parameter("name", "The role's name.")
        .on(
            Operation::Read,
            Endpoint::new("Read a role's key, under a lease.", read_leased).verb("generate"),
        )
        .help("Read a role's API key, under a lease.", LEASED_DESCRIPTION);
    let unleased = Path::new("static-creds/:name", "static-credentials")
        .parameter("name", "The role's name.")
        .on(
            Operation::Read,
            Endpoint::new("Read a role's key, without a lease.", read_unleased),
        )
        .help(
            "Read a rotating role's API key, without a lease.",
            UNLEASED_DESCRIPTION,
        );
    vec![leased, unleased]
}

/// The lease on a shared key. Its end is one reader's affair: the key stays for the others.
pub fn rotating_key() -> SecretType<Engine> {
    SecretType::new(SECRET_TYPE, |_: Arc<Engine>, _: LeasedSecret| async {
        Ok(None)
    })
}

async fn read_leased(engine: Arc<Engine>, call: Call) -> Outcome {
    let name = RoleName::of_path(&call.fields)?;
    let (role, longest) = tokio::join!(
        Role::load(&*engine.storage, &name),
        engine.system.max_lease_ttl()
    );
    let role = role?.ok_or_else(|| Role::missing(&name))?;
    let handout = Handout::of(&role, engine.clock.now(), Some(longest?))?;
    let ttl = Duration::from_secs(handout.ttl);
    let internal_data = Data::from_iter([
        ("role".to_owned(), name.to_string().into()),
        ("key_version".to_owned(), role.current.version.into()),
    ]);
    let lease = Lease {
        ttl,
        max_ttl: ttl,
        // Agent templates, Spring, VSO and the Agent's cache then read again, which is what brings
        // them the next key.
        renewable: false,
    };
    let mut response = handout.response(&role);
    response.secret = Some(leased(SECRET_TYPE, lease, internal_data));
    Ok(Some(response))
}

async fn read_unleased(engine: Arc<Engine>, call: Call) -> Outcome {
    let name = RoleName::of_path(&call.fields)?;
    let role = Role::load(&*engine.storage, &name).await?;
    let role = role.ok_or_else(|| Role::missing(&name))?;
    let handout = Handout::of(&role, engine.clock.now(), None)?;
    Ok(Some(handout.response(&role)))
}

/// The terms on which a reader gets the current key.
///
/// The promise: it works for at least `ttl` seconds more, whatever rotation comes, short of an
/// emergency rotation or OpenRouter's own doing. A rotation leaves it its grace period, which is
/// longer than the role's ttl; and `ttl` never reaches past the key's own expiry.
struct Handout {
    /// In seconds, at least one.
    ttl: u64,
    warnings: Vec<String>,
}

impl Handout {
    fn of(role: &Role, now: Timestamp, longest: Option<Duration>) -> Result<Self, Error> {
        if role.deletion.is_some() {
            return Err(Error::Unusable(
                "the role is being deleted; its key is not handed out any more".to_owned(),
            ));
        }
        let wanted = role.definition.rotation.ttl;
        let mut ttl = wanted;
        let mut warnings = Vec::new();
        // A server says 0 when it was not told a maximum.
        if let Some(longest) = longest.filter(|longest| !longest.is_zero())
            && longest.as_secs() < ttl
        {
            ttl = longest.as_secs().max(1);
            warnings.push(format!(
                "the role's ttl of {wanted} seconds is more than the mount's maximum lease \
                 duration, so the lease is {ttl} seconds"
            ));
        }
        if let Some(expires_at) = role.current.expires_at {
            let left = seconds_until(now, expires_at);
            if left == 0 {
                return Err(expired(role, expires_at));
            }
            if left < ttl {
                ttl = left;
                warnings.push(format!(
                    "the key expires at {expires_at}, so the lease is {ttl} seconds instead of \
                     {wanted}"
                ));
            }
        }
        Ok(Self { ttl, warnings })
    }

    /// Nothing here but `ttl` changes between two rotations: clients compare the rest to decide
    /// whether to restart.
    fn response(self, role: &Role) -> Response {
        let key = &role.current;
        let mut data = Data::new();
        let mut show = |field: &str, value: serde_json::Value| data.insert(field.to_owned(), value);
        show("api_key", key.secret.expose_secret().into());
        show("key_hash", key.hash.to_string().into());
        show("key_name", key.name.clone().into());
        show("key_version", key.version.into());
        show("last_vault_rotation", key.since.to_string().into());
        show("rotation_period", period(role).into());
        show("ttl", self.ttl.into());
        Response::with_data(data).with_warnings(self.warnings)
    }
}

/// In seconds, for clients that want a number whatever the schedule is: for cron, the time from
/// this key's rotation to the next.
fn period(role: &Role) -> u64 {
    let schedule = &role.definition.rotation.schedule;
    if let Some(period) = schedule.period() {
        return period.as_duration().as_secs();
    }
    let since = role.current.anchor;
    let next = schedule.next_after(since);
    next.map_or(0, |next| seconds_until(since, next)).max(1)
}

fn expired(role: &Role, expires_at: Timestamp) -> Error {
    let reason = match &role.rotation_failure {
        Some(failure) => format!("; its rotation failed: {}", failure.message),
        None if !role.definition.rotation.automated => {
            "; rotate-role makes a new one, since rotation is not automated".to_owned()
        }
        None => "; its rotation is due".to_owned(),
    };
    Error::Unusable(format!("the role's key expired at {expires_at}{reason}"))
}

const SECRET_TYPE: &str = "rotating_key";

const LEASED_DESCRIPTION: &str = "\
Returns the role's current key as api_key, with key_hash, key_name, key_version,
last_vault_rotation, rotation_period and ttl. Between two rotations only ttl changes.

The key works for at least ttl seconds more, whatever rotation comes, unless somebody makes an
emergency rotation. The lease is not renewable: read again before it ends, which brings the next
key in time. Revoking the lease does not revoke the key, since its other readers need it.";

const UNLEASED_DESCRIPTION: &str = "\
Returns the same as creds: api_key, key_hash, key_name, key_version, last_vault_rotation,
rotation_period and ttl, without a lease, for clients that cannot use one. Read again within ttl
seconds: so long the key works at least.";
