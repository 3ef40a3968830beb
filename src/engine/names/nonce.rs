//! The unique part of every key's name at OpenRouter. It identifies a key whose creation was never
//! confirmed, and the mount and role that ordered it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::role::RoleName;
use crate::engine::randomness::Randomness;

/// One life of a role, from its creation to its deletion. A later role with the same name has another.
/// Roles in the first stored format have none; that counts as a life of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Life(String);

impl Life {
    /// A new one.
    pub fn new(randomness: &dyn Randomness) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = randomness.bytes();
        let random = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        Self(format!("{random:016x}"))
    }
}

/// The origin of a key: a mount, and one life of one of its roles.
///
/// It is part of every nonce, so that a key without an entry in storage can be distinguished from the keys
/// of other mounts and clusters. Storage that was restored from a snapshot has no entries for the keys
/// that were made after the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin {
    mount: [u8; 4],
    role: [u8; 4],
}

impl Origin {
    /// The origin of a mount, identified by its permanent UUID, and of a life of one of its roles.
    pub fn new(mount: &str, role: &RoleName, life: &Life) -> Self {
        let role = match life.0.as_str() {
            "" => role.to_string(),
            // Role names contain no slash.
            life => format!("{role}/{life}"),
        };
        Self {
            mount: short_digest(mount),
            role: short_digest(&role),
        }
    }

    /// Whether it is a role of the mount with this UUID.
    pub fn is_of_mount(&self, mount: &str) -> bool {
        self.mount == short_digest(mount)
    }
}

/// The beginning of the SHA-256. Mount and role together have 64 bits, enough to rule out that the key of
/// another origin has the same ones by chance.
fn short_digest(text: &str) -> [u8; 4] {
    let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(text));
    [a, b, c, d]
}

/// The nonces of one instance of an engine. The instance can recognize them later.
///
/// 40 random bits stay the same and 24 bits count, so that the instance does not have to remember millions
/// of nonces. It is practically impossible that another instance has the same 40 bits for the same role.
#[derive(Debug)]
pub struct Series {
    id: u64,
    count: AtomicU64,
}

impl Series {
    /// A new one.
    pub fn new(randomness: &dyn Randomness) -> Self {
        let [a, b, c, d, e, ..] = randomness.bytes();
        Self {
            id: u64::from_be_bytes([0, 0, 0, a, b, c, d, e]),
            count: AtomicU64::new(0),
        }
    }

    /// The next 64 bits. After 2^24 of them the upper 40 bits are incremented, so that none is repeated.
    fn next(&self) -> u64 {
        let first = self.id << COUNTED;
        first.wrapping_add(self.count.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether the nonce is one of this series.
    pub fn has(&self, nonce: &Nonce) -> bool {
        let digits = nonce.0.get(16..32);
        let Some(number) = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()) else {
            return false;
        };
        number.wrapping_sub(self.id << COUNTED) < self.count.load(Ordering::Relaxed)
    }
}

/// In bits.
const COUNTED: u32 = 24;

/// The unique part of a key's name: 64 bits of [`Origin`] and 64 bits of a [`Series`], as 32 hexadecimal
/// digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nonce(String);

impl Nonce {
    /// A new one.
    pub fn new(origin: &Origin, series: &Series) -> Self {
        let Origin { mount, role } = origin;
        let (mount, role) = (u32::from_be_bytes(*mount), u32::from_be_bytes(*role));
        let unique = series.next();
        Self(format!("{mount:08x}{role:08x}{unique:016x}"))
    }

    /// The nonce at the end of a key's name, if there is one.
    pub fn of_key_name(key_name: &str) -> Option<Self> {
        let (_, last_word) = key_name.rsplit_once(' ')?;
        let digits = last_word.strip_prefix(PREFIX)?;
        let is_one = digits.len() == 32
            && digits
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        is_one.then(|| Self(digits.to_owned()))
    }

    /// The key's name without the marker, so that no mount recognizes the key as its own.
    pub fn unmarked<'a>(&self, key_name: &'a str) -> &'a str {
        let unmarked = key_name.strip_suffix(&self.marker());
        unmarked.unwrap_or(key_name).trim_end()
    }

    /// The origin of its key. For a nonce that was read from a key's name, this is what the name claims.
    pub fn origin(&self) -> Option<Origin> {
        let part = |range| {
            let digits = self.0.get(range)?;
            Some(u32::from_str_radix(digits, 16).ok()?.to_be_bytes())
        };
        Some(Origin {
            mount: part(0..8)?,
            role: part(8..16)?,
        })
    }

    /// The end of the name of the key with this nonce.
    pub fn marker(&self) -> String {
        format!("{PREFIX}{self}")
    }

    /// Whether this is the name of the key with this nonce.
    pub fn marks(&self, key_name: &str) -> bool {
        key_name.ends_with(&self.marker())
    }

    /// As text, for the id of its entry in the write-ahead log.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const PREFIX: &str = "vault-";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::randomness::SystemRandomness;

    fn origin(mount: &str, role: &str, life: &Life) -> Origin {
        Origin::new(mount, &RoleName::new(role).unwrap(), life)
    }

    #[test]
    fn a_nonce_marks_the_name_that_ends_in_it_and_is_read_from_it() {
        let origin = origin("mount", "app", &Life::default());
        let series = Series::new(&SystemRandomness);
        let (nonce, other) = (Nonce::new(&origin, &series), Nonce::new(&origin, &series));
        assert_eq!(nonce.as_str().len(), 32);
        let name = format!("app 2026-11-21 {}", nonce.marker());
        assert!(nonce.marks(&name));
        assert!(!other.marks(&name));
        assert_eq!(nonce.unmarked(&name), "app 2026-11-21");
        assert_eq!(other.unmarked(&name), name);
        assert_eq!(Nonce::of_key_name(&name), Some(nonce));
    }

    #[test]
    fn a_nonce_tells_whose_key_it_is() {
        let (first, second) = (Life::default(), Life::new(&SystemRandomness));
        let app = origin("mount", "app", &first);
        let read = |nonce: Nonce| Nonce::of_key_name(&format!("app {}", nonce.marker()));
        let series = Series::new(&SystemRandomness);
        let nonce = read(Nonce::new(&app, &series)).unwrap();
        assert_eq!(nonce.origin(), Some(app));
        let sibling = origin("mount", "other", &first);
        let foreign = origin("elsewhere", "app", &first);
        let successor = origin("mount", "app", &second);
        assert!(app != sibling && sibling.is_of_mount("mount"));
        assert!(app != successor && successor.is_of_mount("mount"));
        assert!(app != foreign && !foreign.is_of_mount("mount"));
    }

    #[test]
    fn an_instance_knows_the_nonces_that_it_gave_out_and_no_others() {
        let origin = origin("mount", "app", &Life::default());
        let (own, others) = (
            Series::new(&SystemRandomness),
            Series::new(&SystemRandomness),
        );
        let given: Vec<Nonce> = (0..100).map(|_| Nonce::new(&origin, &own)).collect();
        let distinct: std::collections::BTreeSet<&Nonce> = given.iter().collect();
        assert_eq!(distinct.len(), 100);
        assert!(
            given
                .iter()
                .all(|nonce| own.has(nonce) && !others.has(nonce))
        );
        // A nonce that it has not used yet belongs to another instance.
        let end = u64::from_str_radix(&given[99].as_str()[16..], 16).unwrap() + 1;
        assert!(!own.has(&Nonce(format!("{:016x}{end:016x}", 0))));
        assert!(!own.has(&Nonce::new(&origin, &others)));
    }

    #[test]
    fn what_only_looks_like_a_nonce_is_none() {
        let digits = "0123456789abcdef0123456789abcdef";
        assert!(Nonce::of_key_name(&format!("app vault-{digits}")).is_some());
        for name in [
            format!("app vault-{digits}0"),
            format!("app vault-{}", &digits[1..]),
            format!("app vault-{}", digits.to_uppercase()),
            format!("app vault-{digits} "),
            format!("app my-vault-{digits}"),
            format!("vault-{digits}"),
            "app".to_owned(),
        ] {
            assert_eq!(Nonce::of_key_name(&name), None, "{name}");
        }
    }
}
