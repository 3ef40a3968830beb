//! The bounds of connections: an operator changes them, and no key is created beyond them.

use std::sync::Arc;

use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::{Data, Operation};

use crate::in_force::Entry;
use crate::people::{DYNAMIC, ROTATING};
use crate::witness::Sent;
use crate::world::World;

impl World {
    /// An operator changes the bounds of a connection. They are rejected if a role exceeds them.
    pub(crate) async fn bind(self: &Arc<Self>, name: &str) {
        let all = ROTATING.join(",") + "," + DYNAMIC;
        let body = match self.dice.number(0, 4) {
            0 | 1 => json!({"max_limit": self.dice.number(5, 9)}),
            2 => json!({"max_key_lifetime": self.dice.number(1, 4) * 20_000}),
            3 => json!({"allowed_roles": self.dice.pick(&[&*all, ROTATING[0], DYNAMIC])}),
            _ => unbound(),
        };
        let path = format!("config/{name}");
        let _ = self.operate(Operation::Patch, &path, body).await;
    }

    /// OpenRouter has created a key for the engine.
    pub(crate) fn judge_bounds(&self, hash: &str, sent: &Sent) {
        let Some(placed) = self.placed(hash) else {
            return;
        };
        let (role, key) = (placed.role(), &placed.key);
        let connection = if placed.is_other { "other" } else { "default" };
        let path = format!("config/{connection}");
        let versions = self.in_force(&path, sent.at, LONG);
        let bounds = |entry: &Entry| self.view(&path, entry.as_deref()?);
        let within = |entry: &Entry| {
            let Some(bounds) = bounds(entry) else {
                return true;
            };
            let bounds = &bounds.data;
            let roles = bounds["allowed_roles"].as_array().unwrap().iter();
            let mut roles = roles.filter_map(Value::as_str);
            let limit = bounds["max_limit"].as_f64();
            let lifetime = bounds["max_key_lifetime"].as_i64();
            let lives = key
                .expires_at
                .map(|end| end.duration_since(sent.at).as_secs());
            roles.any(|one| one == "*" || one == role)
                && limit.is_none_or(|most| key.limit.is_some_and(|limit| limit <= most))
                && lifetime.is_none_or(|most| lives.is_some_and(|lives| lives <= most + 60))
        };
        let is_bound = |bounds: &Data| {
            !bounds["max_limit"].is_null()
                || !bounds["max_key_lifetime"].is_null()
                || bounds["allowed_roles"] != json!(["*"])
        };
        if versions
            .first()
            .and_then(bounds)
            .is_some_and(|bounds| is_bound(&bounds.data))
        {
            self.guardrails(|seen| seen.counted.bounded += 1);
        }
        if !versions.iter().any(within) {
            let name = self.story.name(hash);
            let told = format!("{name} of {role} is made beyond the bounds of {connection}");
            self.violated(&told, &[hash]);
        }
    }
}

/// Bounds that restrict nothing.
pub(super) fn unbound() -> Value {
    json!({"allowed_roles": "*", "max_limit": null, "max_key_lifetime": null})
}

/// In seconds: how long an order may take after its role was read.
const LONG: i64 = 20;
