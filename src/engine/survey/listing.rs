//! Lists the keys at a place and compares them with what is expected. A difference is only a reason to check
//! again: a listing is not a snapshot, and the expectations may have changed in the meantime.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::pass::Pass;
use crate::engine::books::{
    Board, Drift, Expectations, Expected, OUTLIVED, OpenBooks, Owner, Part, Record,
};
use crate::engine::clock::after;
use crate::engine::connection::Urgency;
use crate::engine::context::Engine;
use crate::engine::error::Error;
use crate::engine::names::{Nonce, Origin, Place, RoleName};
use crate::engine::role::rotating::MismatchReason;
use crate::engine::spending;
use crate::openrouter::{Key, KeyHash, ListedKey, WorkspaceId};

/// The doubts about a role.
#[derive(Default)]
pub(super) struct Doubts {
    /// Its keys that differ from what is expected, or were not listed.
    pub(super) keys: BTreeSet<KeyHash>,
    /// Keys whose name says that they are the role's, but that are unknown to storage.
    pub(super) unknown: Vec<Key>,
}

/// The result of a listing.
#[derive(Default)]
pub(super) struct Listed {
    /// The doubts about each role.
    pub(super) roles: BTreeMap<RoleName, Doubts>,
    /// Leases whose keys differ from what is expected, or were not listed.
    pub(super) leases: Vec<Record>,
    /// Keys of this mount that were made since the work began, but not by this instance.
    pub(super) foreign: Vec<Key>,
    /// Keys of this mount that belong to no role.
    pub(super) strays: BTreeMap<KeyHash, String>,
    /// Whether a key that this mount manages was listed.
    pub(super) sees_the_account: bool,
    /// The id of the listed workspace, if a key contained it.
    pub(super) workspace_id: Option<WorkspaceId>,
}

/// What a listing has shown about the account.
#[derive(Clone)]
pub(super) struct Surroundings {
    /// The place that was listed.
    pub(super) place: Place,
    /// See [`Listed`].
    pub(super) sees_the_account: bool,
    /// See [`Listed`].
    pub(super) workspace_id: Option<WorkspaceId>,
}

/// Lists a place.
///
/// # Errors
/// Errors from OpenRouter.
pub(super) async fn list(
    pass: &Pass<'_>,
    place: &Place,
    expected: &Expectations,
) -> Result<Listed, Error> {
    let mut walk = Walk::of(pass, place, expected);
    let turn = pass.link.client(Urgency::Ordinary).await;
    turn.each_key(place.workspace_id.as_ref(), |key| walk.visit(key))
        .await
        .map_err(Error::while_doing("keys cannot be compared"))?;
    Ok(walk.end())
}

/// Where a key was found.
pub(super) struct Whereabouts {
    /// Whether it was moved since it was stored.
    pub(super) is_moved: bool,
    /// The workspace to store; `None` is the account's default one.
    pub(super) workspace_id: Option<WorkspaceId>,
}

impl Surroundings {
    /// Where a key is that is stored in the workspace `stored`, and is in the workspace `now` by OpenRouter's
    /// word. If its role makes keys in the account's default workspace, none is stored of a key that is there.
    pub(super) fn whereabouts(
        &self,
        stored: Option<&WorkspaceId>,
        now: &WorkspaceId,
        is_of_default: bool,
    ) -> Whereabouts {
        // The UUID of the default workspace is only known from the keys that are listed there.
        let default = self
            .workspace_id
            .as_ref()
            .filter(|_| self.place.is_default());
        let is_moved = match stored.or(default) {
            Some(was) => was != now,
            None => false,
        };
        let workspace_id = if is_of_default && default == Some(now) {
            None
        } else if is_moved {
            Some(now.clone())
        } else {
            stored.cloned()
        };
        Whereabouts {
            is_moved,
            workspace_id,
        }
    }
}

struct Walk<'a> {
    pass: &'a Pass<'a>,
    place: &'a Place,
    expected: &'a Expectations,
    /// Keys of roles that were not listed yet in their place.
    unlisted: BTreeMap<&'a KeyHash, Vec<&'a RoleName>>,
    /// The leases made through this connection.
    leases: BTreeMap<KeyHash, Record>,
    unlisted_leases: BTreeSet<KeyHash>,
    listed: Listed,
}

impl<'a> Walk<'a> {
    fn of(pass: &'a Pass<'_>, place: &'a Place, expected: &'a Expectations) -> Walk<'a> {
        let mut unlisted = BTreeMap::<_, Vec<_>>::new();
        for (hash, holders) in &expected.keys {
            for (name, key) in holders {
                if key.place == *place && !is_known_to_be_gone(key) {
                    unlisted.entry(hash).or_default().push(name);
                }
            }
        }
        let leases = pass.books.leases.all();
        let leases = leases.filter(|record| record.key.connection == *pass.connection);
        let leases: BTreeMap<_, _> = leases
            .map(|record| (record.key.key_hash.clone(), record))
            .collect();
        let here = leases.values().filter(|record| record.place() == *place);
        Walk {
            pass,
            place,
            expected,
            unlisted,
            unlisted_leases: here.map(|record| record.key.key_hash.clone()).collect(),
            leases,
            listed: Listed::default(),
        }
    }

    fn visit(&mut self, listed: ListedKey) -> Result<(), crate::openrouter::Error> {
        let Some(hash) = listed.hash.clone() else {
            return Ok(());
        };
        // Every key in the listing is in the listed workspace, whoever owns it.
        if self.listed.workspace_id.is_none() {
            self.listed.workspace_id = listed.workspace_id();
        }
        if let Some(holders) = self.expected.keys.get(&hash) {
            self.unlisted.remove(&hash);
            self.listed.sees_the_account = true;
            if let Ok(key) = listed.read() {
                let counted = holders.iter().filter(|(_, expected)| expected.is_counted);
                for (name, _) in counted {
                    spending::note(self.pass.engine, name, &key);
                }
                self.compare(holders, &key);
            }
            return Ok(());
        }
        if let Some(record) = self.leases.get(&hash) {
            self.unlisted_leases.remove(&hash);
            self.listed.sees_the_account = true;
            let engine = self.pass.engine;
            let is_of_default = || engine.register.is_of_default(&record.key.role);
            let is_back = self.is_back(record.workspace_id.as_ref(), is_of_default);
            if let Ok(key) = listed.read() {
                if record.is_to_be_counted() {
                    spending::note_leased(engine, &self.pass.books.leases, record, &key);
                }
                if differs_from_record(engine, record, &key) || is_back {
                    self.listed.leases.push(record.clone());
                }
            }
            return Ok(());
        }
        if self.expected.known.contains(&hash) {
            return Ok(());
        }
        self.visit_unknown(listed)
    }

    /// Whether a listed key was moved away and back to the default workspace: stored with the workspace's UUID,
    /// it is not where its role's keys are.
    fn is_back(&self, stored: Option<&WorkspaceId>, is_of_default: impl Fn() -> bool) -> bool {
        self.place.is_default() && stored.is_some() && is_of_default()
    }

    fn compare(&mut self, holders: &[(RoleName, Expected)], key: &Key) {
        let board = &self.pass.engine.board;
        for (name, expected) in holders {
            let is_here = match (&expected.place.workspace_id, &key.workspace_id) {
                (Some(expected), Some(reported)) => expected == reported,
                _ => true,
            };
            if key.is_named(&expected.name) {
                board.is_over(&key.hash, Drift::KeyRenamed);
            }
            let stored = expected.place.workspace_id.as_ref();
            let is_back = self.is_back(stored, || expected.is_of_default);
            if differs(board, expected, key) || !is_here || is_back {
                let doubts = self.listed.roles.entry(name.clone()).or_default();
                doubts.keys.insert(key.hash.clone());
            }
        }
    }

    /// Handles a key that neither a role nor a lease is known to have.
    fn visit_unknown(&mut self, listed: ListedKey) -> Result<(), crate::openrouter::Error> {
        let (engine, books) = (self.pass.engine, &self.pass.books);
        let Some((nonce, origin)) = origin_of(engine, books, &listed.name) else {
            return Ok(());
        };
        let key = listed.read()?;
        if is_foreign(engine, books, &nonce, key.created_at) {
            self.listed.foreign.push(key);
            return Ok(());
        }
        match engine.register.owner(&origin) {
            Owner::Rotating(name) => {
                let doubts = self.listed.roles.entry(name).or_default();
                doubts.unknown.push(key);
            }
            Owner::Unknown => {}
            Owner::Dynamic(_) | Owner::Nobody => {
                let name = key.shown_name();
                self.listed.strays.insert(key.hash, name);
            }
        }
        Ok(())
    }

    fn end(mut self) -> Listed {
        for (hash, names) in self.unlisted {
            for name in names {
                let doubts = self.listed.roles.entry(name.clone()).or_default();
                doubts.keys.insert(hash.clone());
            }
        }
        for hash in self.unlisted_leases {
            self.listed.leases.extend(self.leases.remove(&hash));
        }
        self.listed
    }
}

fn is_known_to_be_gone(expected: &Expected) -> bool {
    let gone = Some(MismatchReason::Gone);
    matches!(expected.part, Part::Current { mismatch, .. } if mismatch == gone)
}

/// Whether a role's key differs from what is expected.
fn differs(board: &Board, expected: &Expected, key: &Key) -> bool {
    // A drift that was reported and needs no action is not checked again.
    if !key.is_named(&expected.name) && !board.is_known(&key.hash, Drift::KeyRenamed, &key.name) {
        return true;
    }
    match expected.part {
        Part::Current { limits, mismatch } => {
            let known_not_to_work = mismatch.is_some_and(MismatchReason::is_dead);
            key.disabled != known_not_to_work
                || limits.is_some_and(|granted| !key.limits.agree_with(&granted))
        }
        Part::Superseded { disabled_outside } => key.disabled != disabled_outside,
        Part::Held => !key.disabled,
        Part::Changing => false,
    }
}

fn differs_from_record(engine: &Engine, record: &Record, key: &Key) -> bool {
    if !key.disabled {
        engine.board.is_over(&key.hash, Drift::LeasedKeyDisabled);
    }
    let is_news = |drift, details| !engine.board.is_known(&key.hash, drift, details);
    let is_disabled = key.disabled && is_news(Drift::LeasedKeyDisabled, "");
    let is_renamed = !record.key.nonce.marks(&key.name) && is_news(Drift::KeyRenamed, &key.name);
    let limits_differ = record
        .granted
        .is_some_and(|granted| !key.limits.agree_with(&granted));
    let is_elsewhere = record.workspace_id.is_some() && record.workspace_id != key.workspace_id;
    if record.ended.is_some() {
        return !key.disabled;
    }
    is_disabled || limits_differ || is_elsewhere || is_renamed
}

/// Whether a key of this mount was made since the work began, but not by this instance. A key from the first
/// minutes counts as older, since clocks differ, and a deposed leader keeps working for a while.
pub fn is_foreign(
    engine: &Engine,
    books: &OpenBooks,
    nonce: &Nonce,
    created_at: Option<Timestamp>,
) -> bool {
    let certain = after(books.since, OUTLIVED);
    !engine.series.has(nonce) && created_at.is_some_and(|created| created > certain)
}

/// The origin in a key's name, if it is this mount's key and neither ordered nor under a lease. A mount
/// without a UUID cannot distinguish its keys from those of others.
pub(super) fn origin_of(
    engine: &Engine,
    books: &OpenBooks,
    key_name: &str,
) -> Option<(Nonce, Origin)> {
    let nonce = Nonce::of_key_name(key_name)?;
    let origin = nonce.origin()?;
    let ours = !engine.mount.is_empty() && origin.is_of_mount(&engine.mount);
    let spoken_for = || books.intents.is_known(&nonce) || books.leases.living(&nonce).is_some();
    (ours && !spoken_for()).then_some((nonce, origin))
}
