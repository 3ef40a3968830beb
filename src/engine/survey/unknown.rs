//! Keys with this mount's mark that storage does not know: made by another copy of this storage, or of no
//! existing role.

use std::collections::{BTreeMap, BTreeSet};

use super::listing::origin_of;
use super::pass::Pass;
use crate::engine::books::{Owner, in_words};
use crate::engine::error::Error;
use crate::engine::events;
use crate::engine::keys::is_there;
use crate::engine::names::Place;
use crate::openrouter::{Key, KeyHash};

/// Confirms which of these keys were made by another copy of this storage. Asks by hash, under the lock of
/// the role, and verifies that this node may still write the role's entry: a deposed leader would mistake its
/// successor for a copy.
///
/// # Errors
/// Errors from OpenRouter or storage.
pub(super) async fn confirm_copies(
    pass: &Pass<'_>,
    foreign: &[Key],
) -> Result<BTreeSet<KeyHash>, Error> {
    let engine = pass.engine;
    let mut copies = BTreeSet::new();
    // Those that are gone by now say nothing about the others.
    for key in foreign {
        if copies.len() == MAX_NAMED {
            break;
        }
        let Some((_, origin)) = origin_of(engine, &pass.books, &key.name) else {
            continue;
        };
        let owner = match engine.register.owner(&origin) {
            Owner::Rotating(name) | Owner::Dynamic(name) => Some(name),
            Owner::Unknown | Owner::Nobody => None,
        };
        let guard = match &owner {
            Some(name) => Some(engine.change(name).await),
            None => None,
        };
        if !is_there(&pass.link, &key.hash).await? {
            continue;
        }
        if let Some(guard) = &guard {
            let fenced = guard.fence(None).await?;
            let has = fenced
                .role
                .is_some_and(|role| role.keys().any(|(own, _)| *own == key.hash));
            if has {
                continue;
            }
        }
        let still_nobodys =
            origin_of(engine, &pass.books, &key.name).is_some() && !engine.register.has(&key.hash);
        if still_nobodys {
            copies.insert(key.hash.clone());
        }
    }
    Ok(copies)
}

/// Reports that two copies of one storage are active, at each comparison while that is so.
pub(super) async fn report_copies(pass: &Pass<'_>, keys: BTreeSet<KeyHash>) {
    let engine = pass.engine;
    engine
        .board
        .post_copies(pass.connection, keys, engine.now());
    if let Some(copies) = engine.board.copies() {
        tracing::error!(
            mount = engine.mount,
            connection = %pass.connection,
            "{}",
            in_words(&copies)
        );
        events::two_copies(engine, pass.connection, &copies).await;
    }
}

/// Reports which keys of this mount belong to no role, each once.
pub(super) fn report_strays(pass: &Pass<'_>, place: &Place, strays: BTreeMap<KeyHash, String>) {
    let engine = pass.engine;
    let hashes = strays.keys().cloned().collect();
    for hash in engine.board.post_strays(place, hashes) {
        tracing::warn!(
            mount = engine.mount,
            connection = %pass.connection,
            key_hash = %hash,
            key_name = strays.get(&hash),
            "found a key of this mount that belongs to no role; it is left alone"
        );
    }
}

/// Number of keys to name.
const MAX_NAMED: usize = 4;
