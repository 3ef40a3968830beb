//! Custody: every key of an account, its owner, and how a person ends it.

mod contested;
mod cut_off;
mod ending;
mod inventory;
mod lookup;
mod meanwhile;
mod multitude;
mod names;
mod reasons;
mod rotate_all;
pub(crate) mod status;
mod teardown;
mod tidy;
mod torn_down;

use std::collections::BTreeMap;

use openrouter_simulator::{Fault, NewKey};
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::{Data, Operation};

use crate::harness::{Answer, FORGET, ROTATE, World};
pub(crate) use status::metric;

impl World {
    /// A read with these query parameters.
    async fn read_with(&self, path: &str, query: Value) -> Answer {
        let node = self.node();
        node.call(Operation::Read, path, query).await
    }

    /// The answer's data.
    async fn told(&self, path: &str, body: Value) -> Data {
        let answer = self.write(path, body).await.unwrap();
        answer.expect("there is an answer").data
    }

    /// A key made by hand. Returns its hash.
    fn by_hand(&self, name: &str) -> String {
        let account = self.openrouter.account();
        account.create_key(NewKey::named(name)).hash
    }

    /// The hash of the role's oldest superseded key.
    async fn superseded(&self) -> String {
        let role = self.role("app").await.unwrap();
        role["superseded_keys"][0]["hash"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// The data of a read of a run.
    async fn run(&self, path: &str) -> Data {
        let answer = self.read(path).await.unwrap();
        answer.expect("there is a run").data
    }

    /// From now on every request to OpenRouter fails, before it has any effect.
    fn cut_off_openrouter(&self) {
        let away = Fault::ResetBeforeEffect.on_anything().forever();
        self.openrouter.faults().add(away);
    }

    /// A stray key of this mount.
    async fn stray(&self) -> String {
        let hash = self.current().await;
        self.write(FORGET, json!({"revoke_keys": false}))
            .await
            .unwrap();
        hash
    }
}

/// A key with the mark of a mount that is not this one.
const FOREIGN: &str = "app 2026-11-20 vault-0123456789abcdef0123456789abcdef";

/// A world with a key of every kind except those being created, by kind.
async fn with_keys() -> (World, BTreeMap<&'static str, String>) {
    let world = World::with_role().await;
    let stray = world.stray().await;
    world
        .write("roles/app", crate::harness::role())
        .await
        .unwrap();
    world.write(ROTATE, Value::Null).await.unwrap();
    let role = json!({"credential_type": "dynamic", "ttl": 300, "max_ttl": 3600});
    world.write("roles/ci", role).await.unwrap();
    let leased = world.lease().await.unwrap();
    let keys = BTreeMap::from([
        ("stray", stray),
        ("current", world.current().await),
        ("superseded", world.superseded().await),
        ("leased", leased["key_hash"].as_str().unwrap().to_owned()),
        ("foreign", world.by_hand(FOREIGN)),
        ("unmanaged", world.by_hand("somebody's")),
    ]);
    (world, keys)
}

/// From now on the default connection is compared with OpenRouter every minute.
async fn every_minute(world: &World) {
    let body = json!({"reconcile_interval": 60});
    world.write("config", body).await.unwrap();
}
