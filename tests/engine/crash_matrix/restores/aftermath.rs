//! What must hold after a restore, besides the invariants of every world: of strays, of the keys of others, and of
//! the room for leases.

use std::collections::BTreeSet;

use openrouter_simulator::{Key, NewKey};
use serde_json::json;

use crate::crash_matrix::FINAL_READING;
use crate::harness::{CI, Forgotten, World};

/// The strays are as they were, and a person can find and remove them.
pub(super) async fn tidy(world: &World, forgotten: &Forgotten) -> Vec<String> {
    if forgotten.strays.is_empty() {
        return Vec::new();
    }
    let state = |key: &Key| (key.disabled, key.deleted_at);
    let ended = forgotten.strays.iter();
    let ended = ended.filter(|key| state(&world.seen(&key.hash)) != state(key));
    let mut wrong: Vec<String> = ended
        .map(|key| format!("the stray {} was ended", key.hash))
        .collect();
    let strays: BTreeSet<&str> = forgotten.strays.iter().map(|key| &*key.hash).collect();
    let tidied = world.write("tidy/default", json!({})).await;
    let listed = tidied.unwrap().expect("there is an answer").data;
    let keys = listed["keys"].as_array().into_iter().flatten();
    let found: BTreeSet<&str> = keys.filter_map(|key| key["key_hash"].as_str()).collect();
    if found != strays {
        wrong.push(format!("{listed:?} instead of {strays:?}"));
    }
    let body = json!({"dry_run": false});
    let removed = world.write("tidy/default", body).await;
    wrong.extend(removed.err().map(|reason| reason.to_string()));
    for stray in &strays {
        world.forget_promises(stray);
    }
    let living = world.openrouter.account().keys().into_iter();
    let left = living.filter(|key| strays.contains(&*key.hash));
    wrong.extend(left.map(|key| format!("the stray {} is left", key.hash)));
    wrong
}

/// When all leases are over, there are as many again as the role allows.
pub(super) async fn lease_again(world: &World) -> Vec<String> {
    while !world.server_leases().is_empty() {
        world.pass(FINAL_READING).await;
        world.revoke_what_is_over().await;
    }
    world.write(CI, json!({"max_leases": 2})).await.unwrap();
    let mut leases = Vec::new();
    for _ in 0..3 {
        let lease = world.lease().await;
        leases.push(lease.err().map(|reason| reason.to_string()));
    }
    match &leases[..] {
        [None, None, Some(reason)] if reason.contains("max_leases") => Vec::new(),
        _ => vec![format!("two leases are allowed: {leases:?}")],
    }
}

/// Keys of others: one made by hand, and one of another mount for a role of that name.
pub(super) struct Strangers(Vec<Key>);

impl Strangers {
    pub(super) fn come_to(world: &World) -> Self {
        let account = world.openrouter.account();
        let names = [
            "somebody else's",
            "app 2026-11-20 vault-00000000000000000000000000000000",
        ];
        let keys = names.map(|name| account.create_key(NewKey::named(name)));
        for key in &keys {
            world.disown(&key.hash);
        }
        Self(keys.into())
    }

    pub(super) fn touched(&self, world: &World) -> Vec<String> {
        let is_touched = |before: &&Key| {
            let now = world.seen(&before.hash);
            let is_changed = now.updated_at != before.updated_at || now.deleted_at.is_some();
            is_changed
                || world
                    .openrouter
                    .account()
                    .guardrail_of(&before.hash)
                    .is_some()
        };
        let touched = self.0.iter().filter(is_touched);
        touched
            .map(|key| format!("the key {:?} was touched", key.name))
            .collect()
    }
}
