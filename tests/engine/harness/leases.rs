//! The server's side of leases on separate keys: it stores what it was given, and returns it.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::{
    Data, Error, LeasedSecret, Operation, Request, Response, Storage,
};

use super::invariants::Promise;
use super::world::World;

/// A dynamic role.
pub(crate) const CI: &str = "roles/ci";

/// A lease of the server.
#[derive(Clone, Debug)]
pub(crate) struct ServerLease {
    pub(crate) key_hash: String,
    internal_data: Data,
    issued_at: Timestamp,
    ttl: Duration,
    pub(crate) until: Timestamp,
}

impl World {
    /// The same as [`World::connected`], with [`CI`]: a lease of five minutes, an hour at most.
    pub(crate) async fn with_dynamic_role() -> Self {
        let world = Self::connected().await;
        let role = json!({"credential_type": "dynamic", "ttl": 300, "max_ttl": 3600, "limit": 5});
        world.write(CI, role).await.unwrap();
        world
    }

    /// Reads a key of the role `ci`, as an application that relies on it from then on. The server stores the
    /// lease when it has the answer.
    pub(crate) async fn lease(&self) -> Result<Data, Error> {
        let answer = self.read("creds/ci").await?.expect("there is an answer");
        let secret = answer.secret.expect("there is a lease");
        let key_hash = answer.data["key_hash"].as_str().unwrap().to_owned();
        self.require_guarded("ci", &key_hash).await;
        self.promise(&key_hash, secret.lease.ttl);
        self.leases.lock().unwrap().push(ServerLease {
            key_hash,
            internal_data: secret.internal_data,
            issued_at: self.time.now(),
            ttl: secret.lease.ttl,
            until: self.after(secret.lease.ttl.as_secs().cast_signed()),
        });
        Ok(answer.data)
    }

    /// Gives the server's first lease this nonce, as if the engine that wrote the storage had chosen it.
    pub(crate) fn call_lease(&self, nonce: &str) {
        let mut leases = self.leases.lock().unwrap();
        let data = &mut leases[0].internal_data;
        data.insert("nonce".to_owned(), nonce.into());
    }

    /// The leases that the server has.
    pub(crate) fn server_leases(&self) -> Vec<ServerLease> {
        self.leases.lock().unwrap().clone()
    }

    /// The hash of the key of another lease, as with [`World::lease`].
    pub(crate) async fn lease_hash(&self) -> String {
        let key = self.lease().await.unwrap();
        key["key_hash"].as_str().unwrap().to_owned()
    }

    /// Renews the server's first lease, if there is one.
    pub(crate) async fn renew(&self, increment: u64) -> Result<Duration, Error> {
        if self.server_leases().is_empty() {
            return Ok(Duration::ZERO);
        }
        let answer = self.renewed(increment).await?;
        Ok(answer.secret.expect("there is a lease").lease.ttl)
    }

    /// The same, with the whole answer. There is a lease.
    pub(crate) async fn renewed(&self, increment: u64) -> Result<Response, Error> {
        let lease = self.server_leases().remove(0);
        let increment = Duration::from_secs(increment);
        let answer = self.give_back(Operation::Renew, &lease, increment).await?;
        let answer = answer.expect("there is an answer");
        let secret = answer.secret.as_ref().expect("there is a lease");
        let ttl = secret.lease.ttl;
        self.promise(&lease.key_hash, ttl);
        let mut leases = self.leases.lock().unwrap();
        leases[0].internal_data = secret.internal_data.clone();
        leases[0].until = self.after(ttl.as_secs().cast_signed());
        Ok(answer)
    }

    /// Revokes the server's first lease. From now on it has ended. It is forgotten when that has succeeded.
    pub(crate) async fn revoke(&self) -> Result<(), Error> {
        let Some(lease) = self.server_leases().into_iter().next() else {
            return Ok(());
        };
        self.leases.lock().unwrap()[0].until = self.time.now();
        self.forget_promises(&lease.key_hash);
        self.revoke_this(&lease).await
    }

    /// What the server does on its own: revokes expired leases, trying each once.
    pub(crate) async fn revoke_what_is_over(&self) {
        for lease in self.server_leases() {
            if lease.until <= self.time.now() {
                let _ = self.revoke_this(&lease).await;
            }
        }
    }

    async fn revoke_this(&self, lease: &ServerLease) -> Result<(), Error> {
        self.give_back(Operation::Revoke, lease, Duration::ZERO)
            .await?;
        let mut leases = self.leases.lock().unwrap();
        leases.retain(|held| held.key_hash != lease.key_hash);
        Ok(())
    }

    async fn give_back(
        &self,
        operation: Operation,
        lease: &ServerLease,
        increment: Duration,
    ) -> super::node::Answer {
        let mut request = Request::new(operation, "creds/ci");
        request.secret = Some(LeasedSecret {
            internal_data: lease.internal_data.clone(),
            issued_at: lease.issued_at.as_second(),
            ttl: lease.ttl,
            increment,
        });
        let node = self.node();
        self.while_time_passes(node.backend.handle_request(request))
            .await
    }

    fn promise(&self, key_hash: &str, ttl: Duration) {
        self.promises.lock().unwrap().push(Promise {
            hash: key_hash.to_owned(),
            until: self.after(ttl.as_secs().cast_signed()),
        });
    }

    /// Nobody relies on this key any more.
    pub(crate) fn forget_promises(&self, key_hash: &str) {
        let mut promises = self.promises.lock().unwrap();
        promises.retain(|promise| promise.hash != key_hash);
    }

    /// The keys of ended leases that wait for their final readings.
    pub(crate) async fn waiting(&self) -> Vec<String> {
        let mut waiting = Vec::new();
        for (path, key_hash) in self.records().await {
            let entry = self.storage.get(&path).await.unwrap().unwrap();
            let entry: Value = serde_json::from_slice(&entry).unwrap();
            if !entry["data"]["ended"].is_null() {
                waiting.push(key_hash);
            }
        }
        waiting
    }

    /// The engine's records of leases, by the hashes of their keys.
    pub(crate) async fn records(&self) -> Vec<(String, String)> {
        let mut records = Vec::new();
        for path in self.intents() {
            let entry = self.storage.get(&path).await.unwrap().unwrap();
            let entry: Value = serde_json::from_slice(&entry).unwrap();
            if entry["type"] == "lease" {
                let key_hash = entry["data"]["key_hash"].as_str().unwrap();
                records.push((path, key_hash.to_owned()));
            }
        }
        records
    }
}
