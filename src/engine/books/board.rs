//! The findings of the comparisons with OpenRouter, in memory, for the status of a role and of the mount. A
//! node that only serves reads has none.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::engine::names::{ConnectionName, Place, RoleName};
use crate::openrouter::KeyHash;

/// How a key differs from what is expected, or did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Drift {
    /// The current key was deleted.
    CurrentKeyGone,
    /// The current key was disabled.
    CurrentKeyDisabled,
    /// The current key, which was gone or disabled, works again.
    CurrentKeyRestored,
    /// The limit, its reset or what counts toward it was changed; the granted limits are applied again.
    LimitsChanged,
    /// A superseded key was disabled.
    SupersededKeyDisabled,
    /// A superseded or held key was deleted.
    SupersededKeyGone,
    /// A held key was enabled; it is disabled again.
    HeldKeyEnabled,
    /// The key of a lease was deleted.
    LeasedKeyGone,
    /// The key of a lease was disabled.
    LeasedKeyDisabled,
    /// The key was moved to another workspace.
    KeyMoved,
    /// The key has another name.
    KeyRenamed,
    /// The key was removed from its guardrail, or given another one; it is assigned again.
    GuardrailChanged,
    /// A key of the role was unknown to storage; it is now superseded.
    UnknownKey,
}

impl Drift {
    /// The name of the drift in responses and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CurrentKeyGone => "current_key_gone",
            Self::CurrentKeyDisabled => "current_key_disabled",
            Self::CurrentKeyRestored => "current_key_restored",
            Self::LimitsChanged => "limits_changed",
            Self::SupersededKeyDisabled => "superseded_key_disabled",
            Self::SupersededKeyGone => "superseded_key_gone",
            Self::HeldKeyEnabled => "held_key_enabled",
            Self::LeasedKeyGone => "leased_key_gone",
            Self::LeasedKeyDisabled => "leased_key_disabled",
            Self::KeyMoved => "key_moved",
            Self::KeyRenamed => "key_renamed",
            Self::GuardrailChanged => "guardrail_changed",
            Self::UnknownKey => "unknown_key",
        }
    }
}

/// A drift that was found.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Noted {
    /// When the drift was found.
    pub found_at: Timestamp,
    /// The kind of drift.
    pub drift: Drift,
    /// The key's hash: the SHA-256 of the key, by which OpenRouter's API identifies it.
    pub key_hash: KeyHash,
    /// What was found and what was done about it, in one sentence.
    pub message: String,
}

/// Keys of this mount that another instance has made since the work began here.
#[derive(Clone, Debug)]
pub struct Copies {
    /// When such a key was first found.
    pub since: Timestamp,
    /// Some of the keys.
    pub keys: BTreeSet<KeyHash>,
}

/// The board of a mount.
#[derive(Default)]
pub struct Board {
    // A plain mutex: it is never held across an await.
    posted: Mutex<Posted>,
}

#[derive(Default)]
struct Posted {
    notes: BTreeMap<RoleName, VecDeque<Noted>>,
    /// Drifts that were reported and still hold, with their details.
    standing: HashMap<(KeyHash, Drift), String>,
    copies: BTreeMap<ConnectionName, Copies>,
    strays: BTreeMap<Place, BTreeSet<KeyHash>>,
    compared: BTreeMap<ConnectionName, Timestamp>,
}

impl Board {
    /// Adds a finding about a role's key.
    pub fn post(&self, role: &RoleName, noted: Noted) {
        let mut posted = self.posted();
        let notes = posted.notes.entry(role.clone()).or_default();
        if notes.len() == MAX_NOTES {
            notes.pop_front();
        }
        notes.push_back(noted);
    }

    /// The findings about a role's keys, oldest first.
    pub fn of(&self, role: &RoleName) -> Vec<Noted> {
        let posted = self.posted();
        let notes = posted.notes.get(role).into_iter().flatten();
        notes.cloned().collect()
    }

    /// The newest findings of all roles, oldest first, at most `most`, and the total number of findings.
    pub fn newest(&self, most: usize) -> (Vec<(RoleName, Noted)>, usize) {
        let posted = self.posted();
        let notes = posted.notes.iter();
        let mut all: Vec<_> = notes
            .flat_map(|(role, notes)| notes.iter().map(move |noted| (role, noted)))
            .collect();
        all.sort_by_key(|(_, noted)| noted.found_at);
        let count = all.len();
        let newest = all.split_off(count.saturating_sub(most));
        let owned = |(role, noted): (&RoleName, &Noted)| (role.clone(), noted.clone());
        (newest.into_iter().map(owned).collect(), count)
    }

    /// Whether a drift was reported with these details and still holds.
    pub fn is_known(&self, hash: &KeyHash, drift: Drift, details: &str) -> bool {
        let posted = self.posted();
        let said = posted.standing.get(&(hash.clone(), drift));
        said.is_some_and(|said| said == details)
    }

    /// Whether a drift that needs no action was not reported with these details yet.
    pub fn is_news(&self, hash: &KeyHash, drift: Drift, details: &str) -> bool {
        let mut posted = self.posted();
        if posted.standing.len() == MAX_STANDING {
            posted.standing.clear();
        }
        let before = posted
            .standing
            .insert((hash.clone(), drift), details.to_owned());
        before.is_none_or(|before| before != details)
    }

    /// Marks a drift as over. If it comes back, it is reported again.
    pub fn is_over(&self, hash: &KeyHash, drift: Drift) {
        self.posted().standing.remove(&(hash.clone(), drift));
    }

    /// Forgets a role that is gone.
    pub fn forget(&self, role: &RoleName) {
        self.posted().notes.remove(role);
    }

    /// Records keys that another copy of this storage has made.
    pub fn post_copies(
        &self,
        connection: &ConnectionName,
        keys: BTreeSet<KeyHash>,
        now: Timestamp,
    ) {
        let mut posted = self.posted();
        let copies = posted.copies.entry(connection.clone());
        let copies = copies.or_insert_with(|| Copies {
            since: now,
            keys: BTreeSet::new(),
        });
        copies.keys = keys;
    }

    /// Records that there are no such keys any more. Returns whether that was the last connection with any.
    pub fn clear_copies(&self, connection: &ConnectionName) -> bool {
        let mut posted = self.posted();
        posted.copies.remove(connection).is_some() && posted.copies.is_empty()
    }

    /// What is known about other copies of this storage, if there are any.
    pub fn copies(&self) -> Option<Copies> {
        let posted = self.posted();
        posted.copies.values().next().cloned()
    }

    /// Records the keys at a place that have this mount's mark and belong to no role. Returns those that are
    /// new.
    pub fn post_strays(&self, place: &Place, strays: BTreeSet<KeyHash>) -> BTreeSet<KeyHash> {
        let mut posted = self.posted();
        let known = posted.strays.entry(place.clone()).or_default();
        let new = strays.difference(known).cloned().collect();
        *known = strays;
        new
    }

    /// The number of such keys of a connection.
    pub fn strays(&self, connection: &ConnectionName) -> usize {
        let posted = self.posted();
        let strays = posted.strays.iter();
        strays
            .filter(|(place, _)| place.connection == *connection)
            .map(|(_, strays)| strays.len())
            .sum()
    }

    /// Records that a connection was compared completely since `begun`, and which places it has.
    pub fn compared(
        &self,
        connection: &ConnectionName,
        places: &BTreeSet<Place>,
        begun: Timestamp,
    ) {
        let mut posted = self.posted();
        posted.compared.insert(connection.clone(), begun);
        let is_there = |place: &Place| place.connection != *connection || places.contains(place);
        posted.strays.retain(|place, _| is_there(place));
    }

    /// When the last complete comparison of a connection began. What was changed at OpenRouter before that was
    /// found.
    pub fn last_compared(&self, connection: &ConnectionName) -> Option<Timestamp> {
        self.posted().compared.get(connection).copied()
    }

    /// Forgets a connection that is gone.
    pub fn forget_connection(&self, connection: &ConnectionName) {
        let mut posted = self.posted();
        posted.compared.remove(connection);
        posted.copies.remove(connection);
        posted
            .strays
            .retain(|place, _| place.connection != *connection);
    }

    /// Forgets everything.
    pub fn clear(&self) {
        *self.posted() = Posted::default();
    }

    fn posted(&self) -> MutexGuard<'_, Posted> {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The message for users while another copy is active.
pub fn in_words(copies: &Copies) -> String {
    let keys: Vec<String> = copies.keys.iter().map(ToString::to_string).collect();
    format!(
        "another copy of this storage is active, detected at {}: it created the keys {}; stop one of \
         the two, see \"Two copies of one storage\" in the documentation",
        copies.since,
        keys.join(", ")
    )
}

/// Per role.
const MAX_NOTES: usize = 20;
/// In total. Beyond that, drifts may be reported again.
const MAX_STANDING: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u64) -> KeyHash {
        KeyHash::parse(&format!("{number:064x}")).unwrap()
    }

    #[test]
    fn what_was_said_is_news_again_only_when_it_has_changed_or_was_over() {
        let board = Board::default();
        let renamed = |name| board.is_news(&hash(1), Drift::KeyRenamed, name);
        assert!(renamed("a"));
        assert!(!renamed("a"));
        assert!(renamed("b"));
        assert!(board.is_news(&hash(2), Drift::KeyRenamed, "b"));
        board.is_over(&hash(1), Drift::KeyRenamed);
        assert!(renamed("b"));
    }

    #[test]
    fn a_roles_newest_findings_are_kept() {
        let (board, role) = (Board::default(), RoleName::new("app").unwrap());
        for number in 0..50 {
            board.post(
                &role,
                Noted {
                    found_at: Timestamp::UNIX_EPOCH,
                    drift: Drift::LimitsChanged,
                    key_hash: hash(number),
                    message: String::new(),
                },
            );
        }
        let kept = board.of(&role);
        assert_eq!((kept.len(), &kept[19].key_hash), (MAX_NOTES, &hash(49)));
        board.forget(&role);
        assert!(board.of(&role).is_empty());
    }

    #[test]
    fn two_copies_stand_until_no_connection_shows_them() {
        let (board, first) = (Board::default(), ConnectionName::default());
        let second = ConnectionName::parse("second").unwrap();
        for connection in [&first, &second] {
            board.post_copies(connection, [hash(1)].into(), Timestamp::UNIX_EPOCH);
        }
        assert!(!board.clear_copies(&first) && board.copies().is_some());
        assert!(board.clear_copies(&second) && board.copies().is_none());
        assert!(!board.clear_copies(&second), "it was over already");
    }

    #[test]
    fn strays_are_news_once_and_counted_where_there_still_are_keys() {
        let (board, connection) = (Board::default(), ConnectionName::default());
        let place = Place {
            connection: connection.clone(),
            workspace_id: None,
        };
        assert_eq!(
            board.post_strays(&place, [hash(1)].into()),
            [hash(1)].into()
        );
        let both: BTreeSet<_> = [hash(1), hash(2)].into();
        assert_eq!(board.post_strays(&place, both), [hash(2)].into());
        assert_eq!(board.strays(&connection), 2);
        assert!(board.post_strays(&place, [hash(2)].into()).is_empty());
        board.compared(&connection, &[place].into(), Timestamp::UNIX_EPOCH);
        assert_eq!(board.strays(&connection), 1);
        board.compared(&connection, &BTreeSet::new(), Timestamp::UNIX_EPOCH);
        assert_eq!(board.strays(&connection), 0);
    }

    #[test]
    fn a_connection_that_is_gone_is_forgotten_and_no_other() {
        let (board, gone) = (Board::default(), ConnectionName::default());
        let other = ConnectionName::parse("other").unwrap();
        for connection in [&gone, &other] {
            let place = Place {
                connection: connection.clone(),
                workspace_id: None,
            };
            board.post_strays(&place, [hash(1)].into());
            board.compared(connection, &[place].into(), Timestamp::UNIX_EPOCH);
            board.post_copies(connection, [hash(2)].into(), Timestamp::UNIX_EPOCH);
        }
        board.forget_connection(&gone);
        assert_eq!((board.strays(&gone), board.strays(&other)), (0, 1));
        assert_eq!(board.last_compared(&gone), None);
        assert!(board.last_compared(&other).is_some());
        assert!(board.clear_copies(&other), "it was the last one with any");
    }
}
