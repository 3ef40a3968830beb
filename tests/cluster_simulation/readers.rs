//! Readers, who rely on what they are told, and holders of leases.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use vault_plugin_secrets_openrouter::logical::Operation;

use crate::people::{DYNAMIC, ROTATING};
use crate::requests::request;
use crate::world::World;

impl World {
    /// A reader reads a key, and relies on it.
    pub(crate) async fn read(self: &Arc<Self>, role: &str) -> Result<String, String> {
        self.read_within(role, self.patience()).await
    }

    /// The same for a reader with this time limit.
    async fn read_within(
        self: &Arc<Self>,
        role: &str,
        patience: Option<Duration>,
    ) -> Result<String, String> {
        let leased = role == DYNAMIC || self.dice.chance(0.7);
        let path = if leased { "creds" } else { "static-creds" };
        let asked = self.asked_for(role);
        let asked = request(Operation::Read, &format!("{path}/{role}"), asked);
        let (answer, node) = self.ask(asked, patience).await;
        let answer = match answer {
            Ok(answer) => answer.ok_or("nothing")?,
            Err(reason) => {
                if role == DYNAMIC {
                    self.story
                        .tell_of(&[role], format!("reader of {role}: {reason}"));
                }
                return Err(reason);
            }
        };
        let node = node.expect("somebody has answered");
        let hash = answer.data["key_hash"].as_str().unwrap().to_owned();
        self.judge_guardrail(&node, role, &hash).await;
        if role == DYNAMIC {
            if !self.register(&node, role, &answer).await {
                return Err("the lease could not be registered".to_owned());
            }
            let ttl = answer.secret.expect("there is a lease").lease.ttl;
            self.witness_promise(&hash, ttl.as_secs(), "a reader");
        } else {
            self.reconsider_deletion(role);
            self.witness_promise(&hash, answer.data["ttl"].as_u64().unwrap(), "a reader");
        }
        Ok(hash)
    }

    /// The same for a reader who waits, and retries if the server could not register the lease.
    pub(crate) async fn read_patiently(self: &Arc<Self>, role: &str) -> Result<String, String> {
        let mut answer = self.read_within(role, None).await;
        for _ in 0..5 {
            match &answer {
                Err(reason) if reason.contains("registered") => {
                    answer = self.read_within(role, None).await;
                }
                _ => break,
            }
        }
        answer
    }

    /// A role whose key is still handed out long after its deletion began is not being deleted.
    fn reconsider_deletion(&self, role: &str) {
        let is_stored = || {
            let truth = self.truth();
            let rotating = truth.rotating.get(role);
            rotating.map_or(truth.roles.contains(role), |entry| entry.serves(self))
        };
        if let Some((since, is_settled)) = self.witness.deleted_since(role)
            && self.now().duration_since(since).as_secs() > 300
            && (is_settled || is_stored())
        {
            self.witness.deletion(role, None);
        }
    }

    /// Now and then someone reads, renews or revokes a lease.
    pub(crate) async fn readers_live(self: Arc<Self>) {
        loop {
            sleep(self.dice.pause(500, 900_000)).await;
            let world = Arc::clone(&self);
            tokio::spawn(async move {
                match world.dice.number(0, 9) {
                    0..6 => {
                        let role = *world.dice.pick(&ROTATING);
                        let _ = world.read(role).await;
                    }
                    6..8 => {
                        let _ = world.read(DYNAMIC).await;
                    }
                    number => world.holder_acts(number == 9).await,
                }
            });
        }
    }

    /// The holders of leases renew them, revoke them, or both.
    pub(crate) async fn holder_acts(self: &Arc<Self>, ends: bool) {
        let leases = self.leases();
        if leases.is_empty() {
            return;
        }
        let lease = self.dice.pick(&leases).clone();
        if ends {
            self.end_lease(&lease).await;
        }
        if !ends || self.dice.chance(0.3) {
            self.renew(&lease, *self.dice.pick(&[0, 120, 600])).await;
        }
    }
}
