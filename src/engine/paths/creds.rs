//! The paths `creds/:name` and `static-creds/:name`: the keys that a role hands out.
//!
//! Readers of a rotating role share one key; each reader of a dynamic role gets a separate key.

use std::sync::Arc;

use crate::engine::context::Engine;
use crate::engine::leasing::{self, ASKED, Asked};
use crate::engine::names::RoleName;
use crate::engine::role::Role;
use crate::engine::role::dynamic::DynamicRole;
use crate::engine::role::rotating::SharedKey;
use crate::framework::{Call, Endpoint, Outcome, Path};
use crate::logical::{Error, Operation};

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
    Ok(Some(match HandedOut::by(&engine, &name).await? {
        HandedOut::Shared(key) => {
            asked.require_nothing(&name)?;
            let leased = leasing::leased(&engine, &name, key).await?;
            engine.meters.reads_leased.inc();
            leased
        }
        HandedOut::OneEach(role) => {
            let (may_write, longest) =
                tokio::join!(engine.system.may_write(), engine.system.max_lease_ttl());
            if !may_write? {
                return Err(Error::ReadOnly);
            }
            let role = asked.narrow(*role)?;
            let issued = leasing::issue(&engine, &name, &role, &call.request, longest?).await?;
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
        let key = name.key();
        let cached = engine.cache.cached(&key);
        // An expired key may already have a successor.
        if let Some(shared) = cached.filter(|shared| shared.works(engine.now())) {
            return Ok(Self::Shared(shared));
        }
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
