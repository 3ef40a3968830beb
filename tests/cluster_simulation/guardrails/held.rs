//! The guardrails of keys, and whether they are those of the keys' roles.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use openrouter_simulator::Account;
use serde_json::Value;
use vault_plugin_secrets_openrouter::logical::{Operation, Request};
use vault_plugin_secrets_openrouter::openrouter::HttpRequest;

use super::Wanted;
use crate::node::{MOUNT, Node};
use crate::witness::Sent;
use crate::world::World;

impl World {
    /// A reader gets this key from a server.
    pub(crate) async fn judge_guardrail(&self, node: &Arc<Node>, role: &str, hash: &str) {
        let Some(placed) = self.placed(hash) else {
            return;
        };
        let (key, now, held) = (format!("roles/{role}"), self.now(), placed.held());
        let mut versions = self.in_force(&key, now, self.behind(node));
        let newest = self.wanted(role, versions.first().and_then(Option::as_deref), &placed);
        if newest == Wanted::Nothing {
            return;
        }
        if newest == Wanted::Elsewhere {
            // It was ordered before its role was moved.
            versions = self.in_force(&key, placed.key.created_at, LONG);
        }
        if newest.accepts(held.as_ref()) {
            self.guardrails(|seen| seen.counted.guarded += 1);
            return;
        }
        let mut wanted = versions
            .iter()
            .map(|one| self.wanted(role, one.as_deref(), &placed));
        if wanted.any(|wanted| wanted.accepts(held.as_ref())) {
            return;
        }
        let tampered = self.guardrails(|seen| seen.tampered.get(hash).copied());
        if let Some(since) = tampered
            && !compared(node, placed.is_other, since).await
        {
            self.guardrails(|seen| seen.counted.excused += 1);
            return;
        }
        let name = self.story.name(hash);
        let told =
            format!("{name} of {role} is handed out, held to {held:?} instead of {newest:?}");
        self.violated(&told, &[hash]);
    }

    /// For how many seconds a server may have missed changes: since it was deposed.
    fn behind(&self, node: &Arc<Node>) -> i64 {
        let cluster = self.cluster.lock().unwrap();
        let mut deposed = cluster.deposed.iter();
        let deposed = deposed.find(|(one, _)| Arc::ptr_eq(one, node));
        let since = deposed.map_or(self.now(), |(_, since)| *since);
        AT_ONCE + self.now().duration_since(since).as_secs()
    }

    /// OpenRouter has assigned keys to a guardrail for the engine.
    pub(crate) fn witness_assignment(&self, request: &HttpRequest, sent: &Sent) {
        let body = request.json.as_deref().unwrap_or_default();
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let hashes = body["key_hashes"].as_array().into_iter().flatten();
        for hash in hashes.filter_map(Value::as_str) {
            let Some(placed) = self.placed(hash) else {
                continue;
            };
            let (role, held) = (placed.role().to_owned(), placed.held());
            let name = self.story.name(hash);
            let id = held.as_deref().unwrap_or("nothing");
            let told = format!("S{}: {name} is held to {id}", sent.server);
            self.story.tell_of(&[hash], told);
            let now = self.now();
            let versions = self.in_force(&format!("roles/{role}"), now, LONG);
            let newest = versions.first().and_then(Option::as_deref);
            let accepted = |entry| self.wanted(&role, entry, &placed).accepts(held.as_ref());
            if accepted(newest) {
                self.guardrails(|seen| {
                    seen.counted.assigned += 1;
                    seen.tampered.remove(hash)
                });
            } else if now.duration_since(sent.at) > PROMPT {
                self.tamper(hash);
            } else if self.is_in_use(&role, hash)
                && self.wanted(&role, newest, &placed) != Wanted::Elsewhere
                && !versions.iter().map(Option::as_deref).any(accepted)
            {
                let told = format!("{name} is assigned to a guardrail that {role} has no more");
                self.violated(&told, &[hash]);
            }
        }
    }

    /// Whether a reader may have been given the key. A key that is being created may be assigned to the
    /// guardrail that its role had when the key was ordered.
    fn is_in_use(&self, role: &str, hash: &str) -> bool {
        let truth = self.truth();
        let mut of_role = truth.rotating.get(role).into_iter();
        of_role.any(|entry| entry.keys().any(|key| key == hash))
            || self.leases().iter().any(|lease| lease.key_hash == hash)
    }

    /// A snapshot was restored: no server knows what was done about guardrails since it was taken.
    pub(crate) fn forget_guardrails(&self) {
        for key in self.openrouter.accounts.iter().flat_map(Account::keys) {
            self.tamper(&key.hash);
        }
    }

    /// Checks that every key has the guardrail that its role shows, when nothing has gone wrong for hours.
    pub(crate) fn judge_every_guardrail(&self) {
        let truth = self.truth();
        let rotating = truth.rotating.iter();
        let rotating = rotating.filter(|(_, entry)| entry.serves(self));
        let mut keys: Vec<(String, String)> = Vec::new();
        for (role, entry) in rotating {
            let superseded = entry.superseded.iter().map(|(hash, _)| hash);
            let living = superseded.chain([&entry.current]);
            keys.extend(living.map(|hash| (role.clone(), hash.clone())));
        }
        let leases = self.leases().into_iter();
        keys.extend(leases.map(|lease| (lease.role, lease.key_hash)));
        for (role, hash) in keys {
            let entry = self.raft.stored(&format!("{MOUNT}roles/{role}"));
            let Some(placed) = self.placed(&hash) else {
                continue;
            };
            let Wanted::To(guardrail) = self.wanted(&role, entry.as_deref(), &placed) else {
                continue;
            };
            let is_there = placed
                .account
                .guardrails()
                .iter()
                .any(|one| one.id == guardrail);
            let held = placed.held();
            if is_there && held.as_ref() != Some(&guardrail) {
                let name = self.story.name(&hash);
                let told = format!("{name} of {role} is held to {held:?} and not to {guardrail}");
                self.violated(&told, &[&hash]);
            }
        }
    }
}

/// Whether a server has completed a comparison of an account that began after something was changed there.
async fn compared(node: &Arc<Node>, is_other: bool, since: Timestamp) -> bool {
    let path = if is_other {
        "config/other"
    } else {
        "config/default"
    };
    let asked = Request::new(Operation::Read, path);
    let Ok(Some(answer)) = node.backend.handle_request(asked).await else {
        return false;
    };
    let last = answer.data["last_reconciliation"].as_str();
    let last = last.and_then(|at| at.parse::<Timestamp>().ok());
    last.is_some_and(|last| last > since)
}

/// In seconds: an active server has read what it answers at most this long ago.
const AT_ONCE: i64 = 1;
/// In seconds: how long a request with a role's earlier guardrail may be on its way from an active server.
const LONG: i64 = 20;
/// A request that takes longer was delayed.
const PROMPT: SignedDuration = SignedDuration::from_millis(500);
