//! The definition of a rotating role: the terms of its keys, and how they are rotated.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::error::Error;
use crate::engine::role::Terms;
use crate::schedule::Schedule;

/// A rotating role's definition. Stored definitions have been checked: see [`Definition::check`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// The terms of its keys.
    pub terms: Terms,
    /// How the current key is replaced.
    pub rotation: RotationPolicy,
}

/// How a rotating role's current key is replaced. Durations are in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RotationPolicy {
    /// When the key is replaced.
    pub schedule: Schedule,
    /// Whether the schedule is followed; if not, only `rotate-role` rotates.
    pub automated: bool,
    /// How long a superseded key keeps working.
    pub grace: u64,
    /// The duration of a lease.
    pub ttl: u64,
    /// How long a key lives at OpenRouter if it is not revoked.
    pub key_lifetime: KeyLifetime,
    /// How long a key stays disabled after its grace period, before it is deleted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hold: u64,
}

fn is_zero(seconds: &u64) -> bool {
    *seconds == 0
}

/// How long a key lives at OpenRouter if it is not revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyLifetime {
    /// With automatic rotation: two rotation periods, the grace period and the hold. Otherwise unlimited.
    Default,
    /// Unlimited.
    Unlimited,
    /// This many seconds.
    Seconds(u64),
}

impl Definition {
    /// Rejects contradictory definitions.
    ///
    /// # Errors
    /// [`Error::Invalid`], with the field and its valid values.
    pub fn check(&self, now: Timestamp) -> Result<(), Error> {
        self.terms.check()?;
        if self.terms.key_name.contains("{{") {
            return Err(Error::invalid(
                "key_name can contain placeholders only on a dynamic role; a rotating role's key \
                 is shared",
            ));
        }
        self.rotation.check(now)
    }
}

impl RotationPolicy {
    /// The longest time between two rotations that run as scheduled, in seconds.
    pub fn longest_interval(&self, from: Timestamp) -> u64 {
        let window = self
            .schedule
            .window()
            .map_or(0, |window| window.as_duration().as_secs());
        self.schedule
            .longest_interval(from)
            .map_or(u64::MAX, |longest| longest.as_secs())
            .saturating_add(window)
    }

    /// How long a key made at `now` lives at OpenRouter, in seconds; `None` is unlimited.
    pub fn lifetime(&self, now: Timestamp) -> Option<u64> {
        match self.key_lifetime {
            KeyLifetime::Unlimited => None,
            KeyLifetime::Seconds(seconds) => Some(seconds),
            KeyLifetime::Default if !self.automated => None,
            KeyLifetime::Default => Some(
                self.longest_interval(now)
                    .saturating_mul(2)
                    .saturating_add(self.grace)
                    .saturating_add(self.hold),
            ),
        }
    }

    /// The shortest grace period that is longer than every lease on a key, in seconds.
    ///
    /// It is longer than the lease by a tenth of itself: a reader may have got the lease just before the
    /// rotation, and clients read again shortly before their lease ends.
    pub fn shortest_grace(&self) -> u64 {
        self.ttl.saturating_mul(10).div_ceil(9)
    }

    fn check(&self, now: Timestamp) -> Result<(), Error> {
        if self.ttl == 0 {
            return Err(Error::invalid("ttl must be at least 1 second"));
        }
        if self.shortest_grace() > self.grace {
            return Err(Error::Invalid(format!(
                "ttl must be at most nine tenths of rotation_grace_period, so that every lease on \
                 a superseded key ends before the key does: at most {} seconds with a grace period \
                 of {} seconds, not {}",
                self.grace / 10 * 9 + self.grace % 10 * 9 / 10,
                self.grace,
                self.ttl
            )));
        }
        if let Some(period) = self.schedule.period()
            && period.as_duration().as_secs() < SHORTEST_PERIOD
        {
            return Err(Error::Invalid(format!(
                "rotation_period must be at least {SHORTEST_PERIOD} seconds"
            )));
        }
        if self.grace > LONGEST || self.ttl > LONGEST || self.hold > LONGEST {
            return Err(Error::invalid(
                "ttl, rotation_grace_period and revocation_hold must be at most 10 years",
            ));
        }
        self.check_lifetime(now)
    }

    fn check_lifetime(&self, now: Timestamp) -> Result<(), Error> {
        let KeyLifetime::Seconds(lifetime) = self.key_lifetime else {
            return Ok(());
        };
        let needed = if self.automated {
            self.longest_interval(now).saturating_add(self.grace)
        } else {
            self.grace
        };
        if lifetime < needed {
            return Err(Error::Invalid(format!(
                "key_max_lifetime must be 0 (none) or at least {needed} seconds here: a key has to \
                 outlive the time until its rotation and the grace period after it"
            )));
        }
        Ok(())
    }
}

/// The same as in Vault's database engine, in seconds.
const SHORTEST_PERIOD: u64 = 5;
/// In seconds. A longer value is probably a wrong unit.
const LONGEST: u64 = 10 * 365 * 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::engine::names::ConnectionName;
    use crate::openrouter::Limits;
    use crate::schedule::{Cron, Period, Window};

    const DAY: u64 = 24 * 60 * 60;

    fn now() -> Timestamp {
        "2026-11-20T12:00:00Z".parse().unwrap()
    }

    fn every(seconds: u64) -> Schedule {
        Schedule::every(Period::new(Duration::from_secs(seconds)).unwrap())
    }

    fn policy() -> RotationPolicy {
        RotationPolicy {
            schedule: every(30 * DAY),
            automated: true,
            grace: DAY,
            ttl: 3_600,
            key_lifetime: KeyLifetime::Default,
            hold: 0,
        }
    }

    fn refusal(policy: &RotationPolicy) -> String {
        policy.check(now()).unwrap_err().to_string()
    }

    #[test]
    fn a_key_lives_two_periods_and_the_grace_period_unless_it_is_told_otherwise() {
        assert_eq!(policy().lifetime(now()), Some(61 * DAY));
        let held = RotationPolicy {
            hold: 7 * DAY,
            ..policy()
        };
        assert_eq!(held.lifetime(now()), Some(68 * DAY));
        let by_hand = RotationPolicy {
            automated: false,
            ..policy()
        };
        assert_eq!(by_hand.lifetime(now()), None);
        let unlimited = RotationPolicy {
            key_lifetime: KeyLifetime::Unlimited,
            ..policy()
        };
        assert_eq!(unlimited.lifetime(now()), None);
    }

    #[test]
    fn a_window_counts_towards_the_longest_interval() {
        let window = Window::new(Duration::from_secs(7_200)).unwrap();
        let schedule = Schedule::cron(Cron::parse("0 3 * * *").unwrap(), Some(window)).unwrap();
        let policy = RotationPolicy {
            schedule,
            ..policy()
        };
        assert_eq!(policy.longest_interval(now()), DAY + 7_200);
    }

    #[test]
    fn a_key_must_outlive_its_rotation_and_its_grace_period() {
        let lived = |seconds| RotationPolicy {
            key_lifetime: KeyLifetime::Seconds(seconds),
            ..policy()
        };
        assert!(lived(31 * DAY).check(now()).is_ok());
        let refusal = refusal(&lived(31 * DAY - 1));
        assert!(refusal.contains(&(31 * DAY).to_string()), "{refusal}");
        let by_hand = RotationPolicy {
            automated: false,
            ..lived(DAY)
        };
        assert!(by_hand.check(now()).is_ok());
    }

    #[test]
    fn too_short_and_too_long_is_refused() {
        let ttl = |ttl| RotationPolicy { ttl, ..policy() };
        assert!(refusal(&ttl(0)).contains("ttl must be at least 1"));
        let period = RotationPolicy {
            schedule: every(4),
            ..policy()
        };
        assert!(refusal(&period).contains("rotation_period must be at least 5"));
        let grace = RotationPolicy {
            grace: LONGEST + 1,
            ..policy()
        };
        assert!(refusal(&grace).contains("at most 10 years"));
        let hold = RotationPolicy {
            hold: LONGEST + 1,
            ..policy()
        };
        assert!(refusal(&hold).contains("revocation_hold must be at most 10 years"));
    }

    #[test]
    fn a_shared_keys_name_cannot_be_filled_in() {
        let definition = |key_name: &str| Definition {
            terms: Terms {
                connection: ConnectionName::default(),
                key_name: key_name.to_owned(),
                limits: Limits::default(),
                budget: None,
                budget_alert_percent: None,
                track_usage: false,
                workspace_id: None,
                workspace: None,
                guardrail: None,
                guardrail_id: None,
                creator_user_id: None,
                description: String::new(),
            },
            rotation: policy(),
        };
        assert!(definition("app").check(now()).is_ok());
        let refusal = definition("{{display_name}}").check(now()).unwrap_err();
        assert!(
            refusal.to_string().contains("only on a dynamic role"),
            "{refusal}"
        );
    }

    proptest! {
        #[test]
        fn the_longest_ttl_that_a_refusal_names_is_the_longest_that_is_allowed(
            grace in 2..LONGEST, ttl in 1..LONGEST,
        ) {
            let with = |ttl| RotationPolicy { grace, ttl, key_lifetime: KeyLifetime::Unlimited, ..policy() };
            let policy = with(ttl);
            if policy.check(now()).is_ok() {
                prop_assert!(ttl < grace && policy.shortest_grace() <= grace);
            } else {
                let refusal = refusal(&policy);
                let named = refusal.split("at most ").nth(2).unwrap().split(' ').next().unwrap();
                let longest: u64 = named.parse().unwrap();
                prop_assert!(longest == 0 || with(longest).check(now()).is_ok(), "{}", refusal);
                prop_assert!(with(longest + 1).check(now()).is_err(), "{}", refusal);
            }
        }
    }
}
