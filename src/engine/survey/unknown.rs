//! Keys with this mount's mark that nobody has: of another copy of this storage, or of no role.

use std::collections::{BTreeMap, BTreeSet};

use super::listing::{is_foreign, origin_of};
use super::pass::Pass;
use crate::engine::books::{Owner, in_words};
use crate::engine::error::Error;
use crate::engine::events;
use crate::engine::keys::is_there;
use crate::engine::names::Place;
use crate::openrouter::{Key, KeyHash};

/// Which of these keys another copy of this storage has made: asked by hash, and under the lock of the
/// role, whose entry this node must still be able to write. A leader that was deposed would take its
/// successor for a copy.
///
/// # Errors
/// OpenRouter's and storage's.
pub(super) async fn confirm_copies(
    pass: &Pass<'_>,
    foreign: &[Key],
) -> Result<BTreeSet<KeyHash>, Error> {
    let engine = pass.engine;
    let mut copies = BTreeSet::new();
    for key in foreign.iter().take(MOST_ASKED) {
        if copies.len() == MOST_NAMED {
            break;
        }
        let Some((nonce, origin)) = origin_of(engine, &pass.books, &key.name) else {
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
        let still_nobodys = origin_of(engine, &pass.books, &key.name).is_some()
            && !engine.register.has(&key.hash)
            && is_foreign(engine, &pass.books, &nonce, key.created_at);
        if still_nobodys {
            copies.insert(key.hash.clone());
        }
    }
    Ok(copies)
}

/// Says loudly that two copies of one storage are at work: at each comparison, as long as it is so.
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

/// Says which keys of this mount's belong to no role, each once.
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

/// Keys that are asked about: some may be gone by now.
const MOST_ASKED: usize = 100;
/// Keys that are named.
const MOST_NAMED: usize = 4;
