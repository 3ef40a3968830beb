//! The paths `creds/:name` and `static-creds/:name`: the keys that a role hands out.
//!
//! Readers of a rotating role share one key; each reader of a dynamic role gets a separate key.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::context::Engine;
use crate::engine::leasing::{self, ASKED, Asked};
use crate::engine::names::RoleName;
use crate::engine::role::Role;
use crate::engine::role::dynamic::DynamicRole;
use crate::engine::role::rotating::SharedKey;
use crate::framework::{Call, Endpoint, Outcome, Path};
use crate::logical::{Error, Operation, SystemViewError};

/// Both paths.
pub fn paths() -> Vec<Path<Engine>> {
    let leased = Path::new("creds/:name", "credentials")
        .parameter("name", "The role's name.")
        .on(
            Operation::Read,
            Endpoint::new("Read a role's key, under a lease.", read_leased)
                .takes(ASKED.iter().cloned())
                .answers::<leasing::SharedKeyView<'_>>()
                .answers::<leasing::OwnKeyView<'_>>()
                .verb("generate"),
        )
        .on(
            Operation::Update,
            Endpoint::new(
                "Read a role's key, with less than the role allows.",
                read_leased,
            )
            .takes(ASKED.iter().cloned())
            .answers::<leasing::SharedKeyView<'_>>()
            .answers::<leasing::OwnKeyView<'_>>()
            .verb("generate-limited"),
        )
        .help("Read a role's API key, under a lease.", LEASED_DESCRIPTION);
    let unleased = Path::new("static-creds/:name", "static-credentials")
        .parameter("name", "The role's name.")
        .on(
            Operation::Read,
            Endpoint::new("Read a role's key, without a lease.", read_unleased)
                .answers::<leasing::SharedKeyView<'_>>(),
        )
        .help(
            "Read a rotating role's API key, without a lease.",
            UNLEASED_DESCRIPTION,
        );
    vec![leased, unleased]
}

async fn read_leased(engine: Arc<Engine>, call: Call) -> Outcome {
    let name = RoleName::of_path(&call.fields)?;
    // Forwarded to the active node: a standby of OpenBao serves reads, but cannot register the lease. A
    // performance secondary has its own leases.
    if engine.is_standby().await? {
        return Err(Error::ReadOnly);
    }
    engine.require_in_service()?;
    let asked = Asked::of(&call.fields);
    let (handed_out, server) = match HandedOut::cached(&engine, &name) {
        Some(cached) => (cached, None),
        None => HandedOut::stored_and_server(&engine, &name).await?,
    };
    Ok(Some(match handed_out {
        HandedOut::Shared(key) => {
            asked.require_nothing(&name)?;
            let leased = leasing::leased(&engine, &name, key).await?;
            engine.meters.reads_leased.inc();
            leased
        }
        HandedOut::OneEach(role) => {
            let server = match server {
                Some(server) => server,
                None => Server::of(&engine).await,
            };
            if !server.may_write? {
                return Err(Error::ReadOnly);
            }
            let (role, longest) = (asked.narrow(*role)?, server.max_lease_ttl?);
            let issued = leasing::issue(&engine, &name, &role, &call.request, longest).await?;
            engine.meters.reads_dynamic.inc();
            issued
        }
    }))
}

async fn read_unleased(engine: Arc<Engine>, call: Call) -> Outcome {
    let name = RoleName::of_path(&call.fields)?;
    engine.require_in_service()?;
    match HandedOut::by(&engine, &name).await? {
        HandedOut::Shared(key) => {
            let unleased = leasing::unleased(&engine, &name, key).await?;
            engine.meters.reads_static.inc();
            Ok(Some(unleased))
        }
        HandedOut::OneEach(_) => Err(Role::has_no_shared_key(&name, "static-creds").into()),
    }
}

/// What the server says about node and mount, for a lease of a dynamic role.
struct Server {
    may_write: Result<bool, SystemViewError>,
    max_lease_ttl: Result<Duration, SystemViewError>,
}

impl Server {
    async fn of(engine: &Engine) -> Self {
        let (may_write, max_lease_ttl) =
            tokio::join!(engine.system.may_write(), engine.system.max_lease_ttl());
        Self {
            may_write,
            max_lease_ttl,
        }
    }
}

/// What a role hands out.
enum HandedOut {
    /// A rotating role: the same key for every reader.
    Shared(Arc<SharedKey>),
    /// A dynamic role: a separate key for each reader.
    OneEach(Box<DynamicRole>),
}

impl HandedOut {
    /// What the role hands out now. No storage call for a rotating role that was read recently and whose key
    /// still works, otherwise one.
    async fn by(engine: &Engine, name: &RoleName) -> Result<Self, Error> {
        match Self::cached(engine, name) {
            Some(cached) => Ok(cached),
            None => Self::stored(engine, name).await,
        }
    }

    fn cached(engine: &Engine, name: &RoleName) -> Option<Self> {
        let cached = engine.cache.cached(&name.key());
        // An expired key may already have a successor.
        let cached = cached.filter(|shared| shared.works(engine.now()));
        cached.map(Self::Shared)
    }

    async fn stored(engine: &Engine, name: &RoleName) -> Result<Self, Error> {
        let key = name.key();
        let pending = engine.cache.about_to_read(&key);
        Ok(match Role::require(&*engine.storage, name).await? {
            Role::Rotating(role) => {
                let shared = Arc::new(SharedKey::of(*role));
                // A reason to withhold a key is checked again on every read.
                if shared.withheld.is_none() {
                    pending.keep(&shared);
                }
                Self::Shared(shared)
            }
            Role::Dynamic(role) => Self::OneEach(role),
        })
    }

    /// The same, with what the server says, which is asked at the same time. `None` for a role that is not
    /// known to be dynamic: a rotating role's reader does not need it.
    async fn stored_and_server(
        engine: &Engine,
        name: &RoleName,
    ) -> Result<(Self, Option<Server>), Error> {
        if !engine.register.is_dynamic(name) {
            return Ok((Self::stored(engine, name).await?, None));
        }
        let (stored, server) = tokio::join!(Self::stored(engine, name), Server::of(engine));
        Ok((stored?, Some(server)))
    }
}

const LEASED_DESCRIPTION: &str = "\
For a rotating role, returns the current key as api_key, with key_hash, key_name, key_version,
last_vault_rotation, rotation_period and ttl. Between two rotations only ttl changes. The key works for
at least ttl more seconds, through any rotation except an emergency rotation. The lease is not
renewable: read again before it ends to get the next key in time. Revoking the lease does not revoke the
key, since other readers use it.

For a dynamic role, creates a key for this lease and returns it as api_key, with key_hash, key_name,
limit, limit_reset and expires_at. The lease is renewable up to the role's max_ttl. When it is revoked
or expires, the key is deleted at OpenRouter. A read may ask for less than the role allows, with limit
and ttl. If the role's budget has no room for another lease, the response is 429 and says when there
will be room.";

const UNLEASED_DESCRIPTION: &str = "\
Returns the same as creds of a rotating role, without a lease: api_key, key_hash, key_name, key_version,
last_vault_rotation, rotation_period and ttl. For clients that cannot use a lease. Read again within ttl
seconds: the key is valid for at least that long. Dynamic roles are not supported.";
