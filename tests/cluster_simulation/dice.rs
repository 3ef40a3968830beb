//! Randomness. One seeded generator decides everything that the engine does not decide, in the order of the
//! calls. Everything runs on one thread in simulated time, so that order is the same in every run of a seed.

use std::sync::Mutex;
use std::time::Duration;

use fastrand::Rng;
use vault_plugin_secrets_openrouter::engine::randomness::Randomness;

/// The generator of one life.
pub(crate) struct Dice(Mutex<Rng>);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(Rng::with_seed(seed)))
    }

    /// True with this probability, from 0 to 1.
    pub(crate) fn chance(&self, probability: f64) -> bool {
        self.rng(|rng| rng.f64() < probability)
    }

    /// A number from `from` to `to`, both included.
    pub(crate) fn number(&self, from: u64, to: u64) -> u64 {
        self.rng(|rng| rng.u64(from..=to))
    }

    /// One of these, at random.
    pub(crate) fn pick<'a, T>(&self, choices: &'a [T]) -> &'a T {
        &choices[self.rng(|rng| rng.usize(0..choices.len()))]
    }

    /// One of these, at random according to the weights.
    pub(crate) fn weighted<T: Copy>(&self, choices: &[(u64, T)]) -> T {
        let total = choices.iter().map(|(weight, _)| weight).sum::<u64>();
        let mut drawn = self.number(1, total);
        for (weight, choice) in choices {
            if drawn <= *weight {
                return *choice;
            }
            drawn -= weight;
        }
        unreachable!("the weights sum up to the total")
    }

    /// A random time between these, in milliseconds; short times are as likely as long ones.
    pub(crate) fn pause(&self, shortest: u64, longest: u64) -> Duration {
        let (low, high) = ((shortest.max(1) as f64).ln(), (longest as f64).ln());
        let drawn = self.rng(|rng| low + rng.f64() * (high - low));
        Duration::from_millis(drawn.exp() as u64)
    }

    fn rng<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.0.lock().unwrap())
    }
}

impl Randomness for Dice {
    fn bytes(&self) -> [u8; 16] {
        self.rng(|rng| rng.u128(..).to_be_bytes())
    }
}
