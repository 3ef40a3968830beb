//! The engine's source of randomness.

/// A source of randomness.
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

/// Always the same byte, for tests.
#[cfg(test)]
pub struct Always(pub u8);

#[cfg(test)]
impl Randomness for Always {
    fn bytes(&self) -> [u8; 16] {
        [self.0; 16]
    }
}
