//! Amounts of money as the ledger counts them: in whole millionths of a US dollar, so that sums are exact.

use serde::{Deserialize, Serialize};

use crate::openrouter::Usd;

/// An amount in millionths of a US dollar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Amount(u64);

impl Amount {
    /// Zero.
    pub const ZERO: Self = Self(0);
    /// More than any budget: what a key without a limit may spend.
    pub const UNLIMITED: Self = Self(u64::MAX);
    /// The largest budget, one billion dollars. Up to this amount an `f64` can represent every millionth.
    pub const LARGEST: Self = Self(1_000_000_000 * MILLION);

    /// An amount to be granted, in US dollars: rounded down to a millionth.
    pub fn granted(usd: f64) -> Self {
        Self::rounded((usd * MILLION as f64 + NOISE).floor())
    }

    /// An amount that was spent, in US dollars: rounded up to a millionth.
    pub fn spent(usd: f64) -> Self {
        Self::rounded((usd * MILLION as f64 - NOISE).ceil())
    }

    fn rounded(millionths: f64) -> Self {
        // The conversion saturates, and turns NaN into 0.
        Self(millionths as u64)
    }

    /// Whether it is zero.
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// The amount in US dollars.
    pub fn as_usd(self) -> f64 {
        self.0 as f64 / MILLION as f64
    }

    /// The amount as the limit of a key.
    pub fn as_limit(self) -> Option<Usd> {
        (self != Self::UNLIMITED)
            .then(|| Usd::new(self.as_usd()).ok())
            .flatten()
    }

    /// The amount of a key's limit; `None` is unlimited.
    pub fn of_limit(limit: Option<f64>) -> Self {
        // Rounded up, so that a key's limit is never underestimated.
        limit.map_or(Self::UNLIMITED, Self::spent)
    }

    /// The sum, at most [`Amount::UNLIMITED`].
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, at least zero.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// A percentage of it.
    #[must_use]
    pub fn percent(self, percent: u64) -> Self {
        Self(self.0 / 100 * percent + self.0 % 100 * percent / 100)
    }

    /// One of `parts` equal shares; the whole amount for zero parts.
    #[must_use]
    pub fn shared_by(self, parts: usize) -> Self {
        Self(self.0 / u64::try_from(parts).unwrap_or(u64::MAX).max(1))
    }
}

impl std::iter::Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::plus)
    }
}

/// The sum of amounts that come and go. Unlike an [`Amount`], it is still exact after an unlimited one is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    millionths: u128,
    unlimited: usize,
}

impl Total {
    /// Adds an amount.
    pub fn add(&mut self, amount: Amount) {
        match amount {
            Amount::UNLIMITED => self.unlimited = self.unlimited.saturating_add(1),
            Amount(millionths) => {
                self.millionths = self.millionths.saturating_add(millionths.into());
            }
        }
    }

    /// Removes an amount that was added.
    pub fn remove(&mut self, amount: Amount) {
        match amount {
            Amount::UNLIMITED => self.unlimited = self.unlimited.saturating_sub(1),
            Amount(millionths) => {
                self.millionths = self.millionths.saturating_sub(millionths.into());
            }
        }
    }

    /// The sum, at most [`Amount::UNLIMITED`].
    pub fn amount(self) -> Amount {
        match self.unlimited {
            0 => Amount(self.millionths.try_into().unwrap_or(u64::MAX)),
            _ => Amount::UNLIMITED,
        }
    }
}

/// Millionths in a dollar.
const MILLION: u64 = 1_000_000;

/// In millionths of a dollar. Sums of cents are not exact in binary; this makes 0.1 + 0.2 equal to 0.3.
const NOISE: f64 = 0.001;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_granted_is_rounded_down_and_what_is_spent_up() {
        assert_eq!(Amount::granted(1.999_999_9).as_usd(), 1.999_999);
        assert_eq!(Amount::spent(1.000_000_1).as_usd(), 1.000_001);
        assert_eq!(Amount::granted(0.1 + 0.2), Amount::spent(0.1 + 0.2));
        for nothing in [0.0, -5.0, f64::NAN, f64::NEG_INFINITY] {
            assert_eq!(Amount::granted(nothing), Amount::ZERO);
            assert_eq!(Amount::spent(nothing), Amount::ZERO);
        }
        assert_eq!(Amount::of_limit(Some(f64::INFINITY)), Amount::UNLIMITED);
    }

    #[test]
    fn a_total_is_exact_again_when_what_was_without_limit_is_gone() {
        let mut total = Total::default();
        let amounts = [Amount::LARGEST, Amount::UNLIMITED, Amount::granted(0.5)];
        for amount in amounts.into_iter().chain([Amount::UNLIMITED]) {
            total.add(amount);
        }
        assert_eq!(total.amount(), Amount::UNLIMITED);
        total.remove(Amount::UNLIMITED);
        assert_eq!(total.amount(), Amount::UNLIMITED);
        total.remove(Amount::UNLIMITED);
        assert_eq!(total.amount(), Amount::LARGEST.plus(Amount::granted(0.5)));
        // More than the largest amount, and back.
        for _ in 0..20_000 {
            total.add(Amount::LARGEST);
        }
        assert_eq!(total.amount(), Amount::UNLIMITED);
        for _ in 0..20_001 {
            total.remove(Amount::LARGEST);
        }
        assert_eq!(total.amount(), Amount::granted(0.5));
    }

    #[test]
    fn no_limit_is_more_than_any_amount_and_is_no_number_at_openrouter() {
        assert_eq!(Amount::of_limit(None), Amount::UNLIMITED);
        assert_eq!(Amount::UNLIMITED.as_limit(), None);
        assert!(Amount::UNLIMITED > Amount::LARGEST);
        let largest = Amount::LARGEST.as_limit().unwrap();
        assert_eq!(Amount::granted(largest.as_f64()), Amount::LARGEST);
    }

    #[test]
    fn sums_differences_and_parts_stay_within_bounds() {
        let (one, two) = (Amount::granted(1.0), Amount::granted(2.0));
        assert_eq!(one.minus(two), Amount::ZERO);
        assert_eq!(Amount::UNLIMITED.plus(one), Amount::UNLIMITED);
        assert_eq!([one, two].into_iter().sum::<Amount>().as_usd(), 3.0);
        assert_eq!(two.percent(10).as_usd(), 0.2);
        assert_eq!(two.shared_by(4).as_usd(), 0.5);
        assert_eq!(two.shared_by(0), two);
    }
}
