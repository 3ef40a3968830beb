//! The unique part of every key's name at OpenRouter: by it a key is found again whose creation
//! was never confirmed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where randomness comes from.
pub trait Randomness: Send + Sync {
    /// Sixteen unpredictable bytes.
    fn bytes(&self) -> [u8; 16];
}

/// The operating system's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandomness;

impl Randomness for SystemRandomness {
    #[expect(
        clippy::expect_used,
        reason = "without randomness there are no safe names; Linux has had it since boot"
    )]
    fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the system has randomness");
        bytes
    }
}

/// Randomness that is always the same byte, for tests.
#[cfg(test)]
pub struct Always(pub u8);

#[cfg(test)]
impl Randomness for Always {
    fn bytes(&self) -> [u8; 16] {
        [self.0; 16]
    }
}

/// 128 random bits, as 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nonce(String);

impl Nonce {
    /// A new one.
    pub fn new(randomness: &dyn Randomness) -> Self {
        Self(format!("{:032x}", u128::from_be_bytes(randomness.bytes())))
    }

    /// The end of the name of the key that was ordered with this nonce.
    pub fn marker(&self) -> String {
        format!("vault-{self}")
    }

    /// Whether a key of this name was ordered with this nonce.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_marks_the_name_that_ends_in_it() {
        let nonce = Nonce::new(&SystemRandomness);
        let other = Nonce::new(&SystemRandomness);
        assert_eq!(nonce.as_str().len(), 32);
        let name = format!("app 2026-11-21 {}", nonce.marker());
        assert!(nonce.marks(&name));
        assert!(!other.marks(&name));
    }
}
