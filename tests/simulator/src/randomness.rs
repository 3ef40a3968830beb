//! The source of the simulator's secrets and ids.
//!
//! The operating system by default; with a seed, the same sequence in every run. A seeded simulator is
//! for tests only: its keys are predictable.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

/// A source of random bytes.
#[derive(Debug)]
pub(crate) struct Randomness(Mutex<Source>);

#[derive(Debug)]
enum Source {
    System,
    Seeded { seed: u64, drawn: u64 },
}

impl Randomness {
    pub(crate) fn new(seed: Option<u64>) -> Self {
        Self(Mutex::new(match seed {
            None => Source::System,
            Some(seed) => Source::Seeded { seed, drawn: 0 },
        }))
    }

    /// A key in OpenRouter's format: `sk-or-v1-` and 64 lowercase hexadecimal digits.
    pub(crate) fn api_key(&self) -> String {
        format!("sk-or-v1-{}", hex(&self.bytes()))
    }

    /// A version 4 UUID in the usual notation.
    pub(crate) fn uuid(&self) -> String {
        in_uuid_notation(&hex(&self.bytes()), '4')
    }

    /// An id like those of users and organizations: `user_` or `org_` and 27 characters.
    pub(crate) fn clerk_id(&self, prefix: &str) -> String {
        in_clerk_notation(prefix, &hex(&self.bytes()))
    }

    #[expect(
        clippy::expect_used,
        reason = "without the system's randomness nothing can be made up"
    )]
    fn bytes(&self) -> [u8; 32] {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Source::System => {
                let mut bytes = [0; 32];
                getrandom::fill(&mut bytes).expect("the system provides random bytes");
                bytes
            }
            Source::Seeded { seed, drawn } => {
                *drawn += 1;
                Sha256::new()
                    .chain_update(seed.to_be_bytes())
                    .chain_update(drawn.to_be_bytes())
                    .finalize()
                    .into()
            }
        }
    }
}

/// A UUID derived from a text.
pub(crate) fn uuid_from(text: &str) -> String {
    in_uuid_notation(&hex(&Sha256::digest(text.as_bytes())), '8')
}

/// An id like those of [`Randomness::clerk_id`], derived from a text.
pub(crate) fn clerk_id_from(prefix: &str, text: &str) -> String {
    in_clerk_notation(prefix, &hex(&Sha256::digest(text.as_bytes())))
}

fn in_clerk_notation(prefix: &str, digits: &str) -> String {
    format!("{prefix}_2{}", digits.get(..26).unwrap_or_default())
}

/// RFC 9562: the version in the third group, the variant in the fourth.
fn in_uuid_notation(digits: &str, version: char) -> String {
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    format!(
        "{}-{}-{version}{}-a{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 15),
        part(15, 18),
        part(18, 30)
    )
}

/// OpenRouter's id of a key: the SHA-256 of the whole key, in lowercase hexadecimal.
pub(crate) fn hash_of(key: &str) -> String {
    hex(&Sha256::digest(key.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut digits, byte| {
        // Writing to a String cannot fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_keys_and_another_seed_makes_others() {
        let [one, again, other] = [7, 7, 8].map(|seed| Randomness::new(Some(seed)));
        let first = one.api_key();
        assert_eq!(first, again.api_key());
        assert_ne!(first, other.api_key());
        assert_ne!(first, one.api_key());
    }

    #[test]
    fn hashes_are_sha_256_in_lowercase_hexadecimal() {
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash_of("abc"), known);
    }
}
