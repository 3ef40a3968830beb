//! What runs may do to keys, and what they must have done.
//!
//! The entry of a run, as it is committed at that moment, determines whether the run may end a key. A deposed
//! leader may continue a run for some minutes after it has ended. A restored snapshot may lack the run, but it
//! cannot call back the run's requests that are on their way: what was committed before the restore determines
//! for them.

use jiff::{SignedDuration, Timestamp};
use openrouter_simulator::Key;
use serde_json::Value;
use vault_plugin_secrets_openrouter::logical::Data;

use super::{Sent, Witness, nonce_of};
use crate::node::MOUNT;
use crate::runs::began;
use crate::truth::Truth;
use crate::world::World;

impl Witness {
    /// How many snapshots were restored so far.
    pub(crate) fn restores(&self) -> u64 {
        self.seen(|seen| seen.restores)
    }
}

impl World {
    /// Whether the mount is torn down, or was until some minutes ago.
    pub(crate) fn was_torn_down(&self) -> bool {
        let run = self.run("teardown");
        run.is_some_and(|run| !self.is_long_over(&run["work"]["teardown"]["cancelled"]))
    }

    /// Whether the mount is torn down.
    pub(crate) fn is_torn_down(&self) -> bool {
        let run = self.run("teardown");
        run.is_some_and(|run| run["work"]["teardown"]["cancelled"].is_null())
    }

    /// Whether someone has ordered that this key be removed because it has no owner, or that it be replaced
    /// at once as an older key of its connection.
    pub(super) fn is_to_end_by_a_run(&self, hash: &str) -> bool {
        let is_tidied = |connection: &str| {
            self.run(&format!("tidy.{connection}")).is_some_and(|run| {
                let work = &run["work"]["tidy"];
                let is_listed = work["keys"].get(hash).is_some();
                work["dry_run"] == false && is_listed && !self.is_long_over(&run["ended"])
            })
        };
        let mut accounts = self.openrouter.accounts.iter();
        let created = accounts.find_map(|account| Some(account.key(hash)?.created_at));
        let is_replaced = |connection: &str| {
            self.run(&format!("rotate-all.{connection}"))
                .is_some_and(|run| {
                    let is_at_once = run["work"]["rotate_all"]["grace"] == 0;
                    let is_older = created <= time(&run["began"]);
                    is_at_once && is_older && !self.is_long_over(&run["ended"])
                })
        };
        ["default", "other"]
            .iter()
            .any(|connection| is_tidied(connection) || is_replaced(connection))
    }

    /// A snapshot is about to be restored: notes which of these keys a run may be ending.
    pub(super) fn note_ending_by_runs<'a>(&self, keys: impl Iterator<Item = &'a String>) {
        let is_torn_down = self.was_torn_down();
        let ending = keys.filter(|hash| is_torn_down || self.is_to_end_by_a_run(hash));
        let ending: Vec<String> = ending.cloned().collect();
        self.witness.seen(|seen| {
            let restores = seen.restores;
            let ending = ending.into_iter().map(|hash| (hash, restores));
            seen.ending_before.extend(ending);
        });
    }

    /// Whether the request may be one of a run, and was on its way while a snapshot was restored.
    pub(super) fn is_of_a_run_before_a_restore(&self, hash: &str, sent: &Sent) -> bool {
        self.witness.seen(|seen| {
            let restores = seen.ending_before.get(hash);
            restores.is_some_and(|restores| sent.restores <= *restores)
        })
    }

    /// A teardown was answered. If it has finished, every key from before its start is dead or named, except
    /// those that are [out of sight](Self::is_out_of_sight).
    pub(crate) fn witness_teardown(&self, answer: &Data) {
        if answer["state"] != "finished" || answer["left_alive"] != serde_json::json!({}) {
            return;
        }
        let (began, truth) = (began(answer), self.truth());
        let is_the_mounts = |key: &Key| match nonce_of(&key.name) {
            Some(_) => !key.name.starts_with("somebody's"),
            None => truth.leads_to(&key.hash, ""),
        };
        let left: Vec<String> = self
            .living()
            .filter(|key| {
                let is_older = key.created_at < began;
                is_older && is_the_mounts(key) && !self.is_out_of_sight(&truth, key)
            })
            .map(|key| key.hash)
            .collect();
        for hash in left {
            let name = self.story.name(&hash);
            self.violated(&format!("{name} has survived a teardown"), &[&hash]);
        }
    }

    /// Whether storage has lost the key, and has no connection with which the engine could list it.
    fn is_out_of_sight(&self, truth: &Truth, key: &Key) -> bool {
        let nonce = nonce_of(&key.name).unwrap_or_default();
        let is_lost = self.witness.seen(|seen| seen.strays.contains(&key.hash));
        let [_, other] = &self.openrouter.accounts;
        let connection = match other.key(&key.hash) {
            Some(_) => "other",
            None => "default",
        };
        let entry = format!("{MOUNT}config/{connection}");
        is_lost && !truth.leads_to(&key.hash, nonce) && self.raft.stored(&entry).is_none()
    }

    fn run(&self, id: &str) -> Option<Value> {
        let value = self.raft.stored(&format!("{MOUNT}runs/{id}"))?;
        let mut value: Value = serde_json::from_slice(&value).ok()?;
        Some(value["entry"].take())
    }

    fn is_long_over(&self, ended: &Value) -> bool {
        let minutes = SignedDuration::from_mins(3);
        time(ended).is_some_and(|ended| self.now().duration_since(ended) > minutes)
    }
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}
