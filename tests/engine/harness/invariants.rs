//! What must hold in a world at rest, whatever happened before.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};
use vault_plugin_secrets_openrouter::logical::Storage;

use super::world::World;

/// A key was handed out, and must work until then.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    pub(super) hash: String,
    pub(super) until: Timestamp,
}

impl World {
    /// The violations; empty if there is none.
    pub(crate) async fn violations(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut believed = BTreeSet::new();
        for name in self.storage.list("roles/").await.unwrap() {
            match self.role(&name).await {
                Some(role) if role["credential_type"] == "dynamic" => {
                    if let Some(budget) = role.get("budget").and_then(Value::as_f64) {
                        self.judge_budget(budget, &mut wrong);
                    }
                }
                Some(role) => {
                    self.judge_role(&name, &role, &mut wrong).await;
                    believed.extend(hashes(&role));
                }
                None => wrong.push(format!("role {name} cannot be read")),
            }
        }
        let leases = self.server_leases();
        let leased: Vec<String> = leases.into_iter().map(|lease| lease.key_hash).collect();
        believed.extend(leased.iter().cloned());
        let alive = self.openrouter.account().keys().into_iter();
        // Keys made by hand do not matter until they are adopted.
        let alive =
            alive.filter(|key| key.name.contains(" vault-") || believed.contains(&key.hash));
        let alive: BTreeSet<String> = alive.map(|key| key.hash).collect();
        for orphan in alive.difference(&believed) {
            if self.is_unowned(orphan) {
                continue;
            }
            wrong.push(format!("nobody knows of the living key {orphan}"));
        }
        for name in self.storage.list("roles/").await.unwrap() {
            let terms = self.terms(&name).await.unwrap_or_default();
            let keys = match self.role(&name).await {
                Some(role) if role["credential_type"] == "dynamic" => leased.clone(),
                Some(role) => hashes(&role),
                None => Vec::new(),
            };
            let unguarded = keys
                .iter()
                .filter_map(|hash| self.lacks_guardrail(&terms, hash));
            wrong.extend(unguarded.map(|wrong| format!("role {name} has {wrong}")));
        }
        wrong.extend(self.unguarded.lock().unwrap().iter().cloned());
        for dead in believed.difference(&alive) {
            wrong.push(format!("the key {dead} is believed to live"));
        }
        let records = self.records().await;
        for left in self.intents() {
            let of_a_lease = records
                .iter()
                .any(|(path, hash)| *path == left && believed.contains(hash));
            if !of_a_lease {
                wrong.push(format!("{left} is left behind"));
            }
        }
        wrong
    }

    /// The problems that the roles themselves report.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        for name in self.storage.list("roles/").await.unwrap() {
            let answer = self.read(&format!("roles/{name}")).await.unwrap();
            let answer = answer.expect("it is listed");
            if answer.data["credential_type"] == "dynamic" {
                continue;
            }
            if answer.data["rotation_status"] != "success" {
                complaints.push(format!("{name}: {}", answer.data["last_rotation_message"]));
            }
            complaints.extend(answer.warnings);
        }
        complaints
    }

    /// Records a key that was just handed out without its role's guardrail. A key in another workspace than
    /// the role's is ignored: it keeps the guardrail that it was created with.
    pub(super) async fn require_guarded(&self, role: &str, hash: &str) {
        let Some(terms) = self.terms(role).await else {
            return;
        };
        if terms["guardrail_id"].is_string() {
            self.guarded.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(wrong) = self.lacks_guardrail(&terms, hash) {
            let handed_out = format!("role {role} has handed out {wrong}");
            self.unguarded.lock().unwrap().push(handed_out);
        }
    }

    /// How many keys of guarded roles were handed out so far.
    pub(crate) fn guarded_hand_outs(&self) -> usize {
        self.guarded.load(Ordering::Relaxed)
    }

    /// From now on, the dashboard is used to change things, which the engine cannot notice at once.
    pub(crate) fn forgive_unguarded(&self) {
        self.unguarded.lock().unwrap().clear();
    }

    /// The stored terms of a role.
    async fn terms(&self, role: &str) -> Option<Value> {
        let stored = self.storage.get(&format!("roles/{role}")).await.unwrap()?;
        let stored: Value = serde_json::from_slice(&stored).unwrap();
        let entry = &stored["entry"];
        let rotating = &entry["rotating"]["definition"]["terms"];
        let terms = [rotating, &entry["dynamic"]["terms"]];
        terms.into_iter().find(|terms| terms.is_object()).cloned()
    }

    fn lacks_guardrail(&self, terms: &Value, hash: &str) -> Option<String> {
        let account = self.openrouter.account();
        let wanted = terms["guardrail_id"].as_str()?;
        let workspace = terms["workspace_id"].as_str().map(str::to_owned);
        let workspace = workspace.unwrap_or_else(|| account.default_workspace());
        let key = account.key(hash)?;
        let held = account.guardrail_of(hash);
        (key.workspace_id == workspace && held.as_deref() != Some(wanted))
            .then(|| format!("{hash}, held to {held:?} instead of {wanted}"))
    }

    /// This key needs no owner, and what it spends is nobody's: it belongs to somebody else, or to what storage
    /// has forgotten.
    pub(crate) fn disown(&self, hash: &str) {
        self.unowned.lock().unwrap().insert(hash.to_owned());
    }

    /// Whether the key was disowned.
    pub(crate) fn is_unowned(&self, hash: &str) -> bool {
        self.unowned.lock().unwrap().contains(hash)
    }

    /// From now on: somebody takes keys from those who hold them, and means it.
    pub(crate) fn forgive_deaths(&self) {
        self.promises.lock().unwrap().clear();
    }

    /// Keys that died although there was still a lease on them.
    pub(crate) fn broken_promises(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for promise in self.promises.lock().unwrap().iter() {
            let key = self.openrouter.account().key(&promise.hash).unwrap();
            let disabled_at = key.updated_at.filter(|_| key.disabled);
            let died = key
                .deleted_at
                .into_iter()
                .chain(disabled_at)
                .chain(key.expires_at)
                .min();
            if let Some(died) = died.filter(|died| *died < promise.until) {
                broken.push(format!("{promise:?} died at {died}"));
            }
        }
        broken
    }

    async fn judge_role(
        &self,
        name: &str,
        role: &serde_json::Map<String, Value>,
        wrong: &mut Vec<String>,
    ) {
        let now = self.time.now();
        for key in role["superseded_keys"].as_array().unwrap() {
            let revoke_at: Timestamp = key["revoke_at"].as_str().unwrap().parse().unwrap();
            let hash = key["hash"].as_str().unwrap();
            let at_openrouter = self.openrouter.account().key(hash);
            // With a budget, the key is disabled first, and deleted after its final reading.
            let is_ending =
                role.contains_key("budget") && at_openrouter.is_some_and(|k| k.disabled);
            if revoke_at <= now && !is_ending {
                wrong.push(format!(
                    "a superseded key of {name} outlives its time: {key}"
                ));
            }
        }
        for key in role["held_keys"].as_array().unwrap() {
            let until: Timestamp = key["held_until"].as_str().unwrap().parse().unwrap();
            let hash = key["hash"].as_str().unwrap();
            let is_disabled = self
                .openrouter
                .account()
                .key(hash)
                .is_some_and(|k| k.disabled);
            if until <= now || !is_disabled {
                wrong.push(format!(
                    "a held key of {name} works, or outlives its time: {key}"
                ));
            }
        }
        match self.key(name).await {
            Err(reason) => wrong.push(format!("role {name} serves no key: {reason}")),
            Ok(data) => self.judge_key(role, &data, wrong),
        }
    }

    fn judge_key(
        &self,
        role: &serde_json::Map<String, Value>,
        data: &serde_json::Map<String, Value>,
        wrong: &mut Vec<String>,
    ) {
        let hash = data["key_hash"].as_str().unwrap();
        if hash_of(data["api_key"].as_str().unwrap()) != hash {
            wrong.push(format!("{hash} is not the hash of the key"));
        }
        let Some(key) = self.openrouter.account().key(hash) else {
            return wrong.push(format!("OpenRouter never had the key {hash}"));
        };
        let expired = key.expires_at.is_some_and(|at| at <= self.time.now());
        if key.deleted_at.is_some() || key.disabled || expired {
            wrong.push(format!("the current key does not work: {hash}"));
        }
        if let Some(budget) = role.get("budget").and_then(Value::as_f64) {
            self.judge_budget(budget, wrong);
        } else if role["limit"].as_f64() != key.limit {
            let (wanted, has) = (&role["limit"], key.limit);
            wrong.push(format!("the key's limit is {has:?}, the role's {wanted}"));
        }
    }
}

impl World {
    /// For a world with one role, which has a budget.
    fn judge_budget(&self, budget: f64, wrong: &mut Vec<String>) {
        let now = self.time.now();
        let mut keys = self.openrouter.account().all_keys();
        keys.retain(|key| !self.is_unowned(&key.hash));
        let counted = keys.iter().map(|key| {
            let spent = key
                .limit_reset
                .map_or_else(|| key.usage.total(), |window| key.usage.within(window, now));
            let lives = key.deleted_at.is_none() && !key.disabled;
            let granted = key.limit.filter(|_| lives).unwrap_or(0.0);
            if lives && key.limit.is_none() {
                wrong.push(format!("the key {} has no limit", key.hash));
            }
            granted.max(spent)
        });
        let counted: f64 = counted.sum();
        if counted > budget + 1e-6 {
            wrong.push(format!(
                "the keys may spend {counted} of a budget of {budget}"
            ));
        }
    }
}

/// The hashes of the keys in a read of a role.
pub(crate) fn hashes(role: &serde_json::Map<String, Value>) -> Vec<String> {
    let superseded = role["superseded_keys"].as_array().unwrap().iter();
    let held = role["held_keys"].as_array().unwrap();
    superseded
        .chain(held)
        .chain([&role["current_key"]])
        .map(|key| key["hash"].as_str().unwrap().to_owned())
        .collect()
}

/// In OpenRouter's form.
pub(crate) fn hash_of(secret: &str) -> String {
    let digest = Sha256::digest(secret);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
