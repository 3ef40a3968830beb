//! The servers' side of leases on separate keys. Leases are stored in the same storage as everything else,
//! renewed and revoked through the engine, and revoked when they expire, with as many attempts as Vault
//! makes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use vault_plugin_secrets_openrouter::logical::{Data, LeasedSecret, Operation, Request, Response};

use crate::node::Node;
use crate::world::World;

/// A lease of the servers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub(crate) id: String,
    pub(crate) role: String,
    pub(crate) key_hash: String,
    internal_data: Data,
    issued_at: Timestamp,
    ttl: u64,
    pub(crate) until: Timestamp,
    /// The servers have begun to revoke it.
    ending: bool,
}

impl World {
    /// The leases that are stored.
    pub(crate) fn leases(&self) -> Vec<Lease> {
        let stored = self.raft.below(LEASES);
        stored
            .iter()
            .map(|value| serde_json::from_slice(value).unwrap())
            .collect()
    }

    /// The response to a reader of a dynamic role passes the server, which registers its lease. `false` if it
    /// could not: then nobody gets the key, and the server revokes it.
    pub(crate) async fn register(
        self: &Arc<Self>,
        node: &Arc<Node>,
        role: &str,
        answer: &Response,
    ) -> bool {
        let secret = answer.secret.as_ref().expect("there is a lease");
        let key_hash = answer.data["key_hash"].as_str().unwrap().to_owned();
        let ttl = secret.lease.ttl.as_secs();
        let lease = Lease {
            id: key_hash.clone(),
            role: role.to_owned(),
            key_hash,
            internal_data: secret.internal_data.clone(),
            issued_at: self.now(),
            ttl,
            until: self.after(ttl),
            ending: false,
        };
        if self.raft.leader() == Some(node.server) && !self.dice.chance(0.03) {
            self.keep(&lease);
            return true;
        }
        let about = lease.key_hash.as_str();
        self.story
            .tell_of(&[about], "the server cannot register the lease");
        self.witness
            .excuse(&lease.key_hash, "its lease was not registered");
        let _ = self.revoke_at(node, &lease).await;
        false
    }

    /// The holder of a lease renews it.
    pub(crate) async fn renew(self: &Arc<Self>, lease: &Lease, increment: u64) {
        if lease.ending || lease.until <= self.now() {
            // The servers reject that themselves.
            return;
        }
        let increment = Duration::from_secs(increment);
        let request = lease.request(Operation::Renew, increment);
        let patience = self.patience();
        let (answer, _) = self.ask(request, patience).await;
        let name = self.story.name(&lease.key_hash);
        let Ok(Some(answer)) = answer else {
            let told = format!("the lease on {name} is not renewed: {:?}", answer.err());
            return self.story.tell_of(&[&lease.key_hash], told);
        };
        let ttl = answer.secret.expect("there is a lease").lease.ttl.as_secs();
        // It may have ended in the meantime, or storage was restored.
        let stored = self.leases().into_iter().find(|known| known.id == lease.id);
        if let Some(mut lease) = stored.filter(|lease| !lease.ending) {
            lease.until = self.after(ttl);
            self.keep(&lease);
            self.witness_promise(&lease.key_hash, ttl, "who renews");
        }
    }

    /// The holder of a lease, or an operator, revokes it.
    pub(crate) async fn end_lease(self: &Arc<Self>, lease: &Lease) {
        let name = self.story.name(&lease.key_hash);
        self.story.tell_of(
            &[&lease.key_hash],
            format!("the lease on {name} is to end now"),
        );
        self.witness
            .excuse(&lease.key_hash, "its lease was revoked");
        let stored = self.leases().into_iter().find(|known| known.id == lease.id);
        if let Some(mut lease) = stored {
            lease.until = self.now();
            self.keep(&lease);
        }
    }

    async fn revoke_at(self: &Arc<Self>, node: &Arc<Node>, lease: &Lease) -> Result<(), String> {
        let request = lease.request(Operation::Revoke, Duration::ZERO);
        self.ask_node(node, request, None).await.map(|_| ())
    }

    fn keep(&self, lease: &Lease) {
        let value = serde_json::to_vec(lease).unwrap();
        self.raft
            .note((format!("{LEASES}{}", lease.id), Some(value)));
    }

    fn forget(&self, lease: &Lease) {
        self.raft.note((format!("{LEASES}{}", lease.id), None));
    }
}

impl Lease {
    fn request(&self, operation: Operation, increment: Duration) -> Request {
        let mut request = Request::new(operation, format!("creds/{}", self.role));
        request.secret = Some(LeasedSecret {
            internal_data: self.internal_data.clone(),
            issued_at: self.issued_at.as_second(),
            ttl: Duration::from_secs(self.ttl),
            increment,
        });
        request
    }
}

/// A leader revokes expired leases.
pub(crate) async fn manage(world: Arc<World>, server: usize) {
    let tries: Mutex<BTreeMap<String, (u32, Timestamp)>> = Mutex::default();
    let tries = Arc::new(tries);
    let under_way: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    while world.raft.leader() == Some(server) {
        let now = world.now();
        for lease in world.leases() {
            let due = tries.lock().unwrap().get(&lease.id).copied();
            let is_due = match due {
                Some((tried, at)) => tried <= MAX_TRIES && at <= now,
                None => lease.until <= now,
            };
            if is_due && !lease.ending {
                let ending = true;
                world.keep(&Lease {
                    ending,
                    ..lease.clone()
                });
            }
            if is_due && under_way.lock().unwrap().insert(lease.id.clone()) {
                let (world, tries) = (Arc::clone(&world), Arc::clone(&tries));
                let under_way = Arc::clone(&under_way);
                tokio::spawn(async move {
                    let outcome = match world.active() {
                        Some(node) if node.server == server => world.revoke_at(&node, &lease).await,
                        _ => Err("no engine".to_owned()),
                    };
                    if outcome.is_ok() {
                        if world.raft.leader() == Some(server) {
                            world.forget(&lease);
                        }
                    } else {
                        let mut tries = tries.lock().unwrap();
                        let tried = tries.entry(lease.id.clone()).or_insert((0, now));
                        tried.0 += 1;
                        tried.1 = world.after(10 << tried.0.min(8));
                    }
                    under_way.lock().unwrap().remove(&lease.id);
                });
            }
        }
        // Vault is punctual to the second; a few seconds late is the worse case.
        let pause = if world.leases().is_empty() { 30 } else { 10 };
        sleep(Duration::from_secs(pause)).await;
    }
}

const LEASES: &str = "server/lease/";
/// After that a lease is irrevocable.
const MAX_TRIES: u32 = 6;
