//! Who reads at standbys: one after another for a while, more of them while a key is being replaced.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::sleep;
use vault_plugin_secrets_openrouter::logical::{Operation, Request};

use super::contract::Handout;
use super::node::Standby;
use crate::people::ROTATING;
use crate::raft::SERVERS;
use crate::world::World;

impl World {
    /// Somebody reads at a standby, several times.
    pub(super) async fn read_at_standby(self: Arc<Self>, server: usize) {
        let dice = Arc::clone(&self.standbys.dice);
        let (role, longest) = (*dice.pick(&ROTATING), *dice.pick(&[500, 5_000, 30_000]));
        for _ in 0..dice.number(1, 5) {
            if let Some(standby) = self.standby(server) {
                self.read_role_from(&standby, role).await;
            }
            sleep(dice.pause(1, longest)).await;
        }
    }

    /// Somebody reads from this engine.
    pub(super) async fn read_from(self: Arc<Self>, standby: Arc<Standby>) {
        let dice = Arc::clone(&self.standbys.dice);
        for _ in 0..2 {
            self.read_role_from(&standby, dice.pick::<&str>(&ROTATING))
                .await;
            sleep(dice.pause(1, 200)).await;
        }
    }

    /// A key of this role is ordered: somebody reads at a standby before it becomes current, and after.
    pub(crate) fn crowd_standbys(self: &Arc<Self>, role: &str) {
        let Some(role) = ROTATING.into_iter().find(|known| *known == role) else {
            return;
        };
        let standbys: Vec<_> = (0..SERVERS).filter_map(|it| self.standby(it)).collect();
        if standbys.is_empty() {
            return;
        }
        let server = self.standbys.dice.pick(&standbys).node.server;
        let world = Arc::clone(self);
        tokio::spawn(async move {
            let dice = &world.standbys.dice;
            for _ in 0..dice.number(4, 8) {
                if let Some(standby) = world.standby(server) {
                    world.read_role_from(&standby, role).await;
                }
                sleep(dice.pause(20, 12_000)).await;
            }
        });
    }

    async fn read_role_from(self: &Arc<Self>, standby: &Arc<Standby>, role: &'static str) {
        let (server, leased) = (standby.node.server, self.standbys.dice.chance(0.1));
        let path = if leased { "creds" } else { "static-creds" };
        let (begun, asked) = (self.now(), standby.asked());
        let told_at = || standby.told_at(&format!("roles/{role}"));
        let told = told_at();
        let request = Request::new(Operation::Read, format!("{path}/{role}"));
        let answer = self.ask_node(&standby.node, request, None).await;
        if leased && !self.has_led_lately(server, begun) {
            if answer.is_ok() {
                let what = format!("S{server}, a standby, leases the key of {role}");
                self.violated(&what, &[]);
            }
            self.standbys.count(|counted| counted.forwarded += 1);
        }
        if let Ok(Some(answer)) = answer {
            let handout = Handout {
                server,
                role,
                hash: answer.data["key_hash"].as_str().unwrap(),
                ttl: answer.data["ttl"].as_u64().unwrap(),
                begun,
                told,
                is_kept: standby.asked() == asked,
                is_raced: told_at() != told,
            };
            self.judge_standby(&handout);
        }
    }

    /// Whether an engine may believe, or have believed since then, that its server leads: it asks again after a
    /// second, and its server may have led for a moment only.
    pub(super) fn has_led_lately(&self, server: usize, since: Timestamp) -> bool {
        let since = since - SignedDuration::from_secs(2);
        self.raft
            .followers(|followers| followers.led_since(server, since))
    }

    /// When everything has been calm for hours, each standby hands out what is stored.
    pub(crate) async fn judge_standbys(self: &Arc<Self>) {
        for server in 0..SERVERS {
            for role in ROTATING {
                let mut wrong = self.wrong_answer(server, role).await;
                if wrong.is_some() {
                    // The role may have changed a moment ago.
                    sleep(Duration::from_secs(61)).await;
                    wrong = self.wrong_answer(server, role).await;
                }
                if let Some((what, current)) = wrong {
                    self.violated(&what, &[&current]);
                }
            }
        }
    }

    /// What is wrong with what a standby answers for this role, and which key is current by storage.
    async fn wrong_answer(self: &Arc<Self>, server: usize, role: &str) -> Option<(String, String)> {
        let standby = self.standby(server)?;
        let request = Request::new(Operation::Read, format!("static-creds/{role}"));
        let answer = self.ask_node(&standby.node, request, None).await;
        let hash = match &answer {
            Ok(Some(answer)) => answer.data["key_hash"].as_str(),
            _ => None,
        };
        self.standbys.count(|counted| counted.settled += 1);
        let truth = self.truth();
        let entry = truth.rotating.get(role).filter(|entry| entry.serves(self));
        let current = entry.map(|entry| entry.current.as_str());
        if hash == current {
            return None;
        }
        let name =
            |hash: Option<&str>| hash.map_or("nothing".to_owned(), |hash| self.story.name(hash));
        let (given, stored) = (name(hash), name(current));
        let why = answer.as_ref().err().cloned().unwrap_or_default();
        let what = format!("S{server} hands out {given} for {role}, and {stored} is stored; {why}");
        Some((what, current.or(hash).unwrap_or_default().to_owned()))
    }
}
