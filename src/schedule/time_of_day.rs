//! A time of day in UTC, to the minute.
//!
//! Used by [`Schedule`](super::Schedule) for periods of whole days. It has no date and no time zone, so
//! it can neither be skipped nor repeated.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::InvalidSchedule;
use super::error::excerpt;

/// A time of day in UTC, written `HH:MM`, from `00:00` to `23:59`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct TimeOfDay {
    hour: u8,
    minute: u8,
}

impl TimeOfDay {
    /// Parses `HH:MM`, two digits each.
    ///
    /// # Errors
    ///
    /// [`InvalidSchedule::TimeOfDay`] for anything else: `3:00`, `24:00`, `03:00:00`, `03:00Z`.
    pub fn parse(text: &str) -> Result<Self, InvalidSchedule> {
        let time = text.split_once(':').and_then(|(hour, minute)| {
            Some(Self {
                hour: two_digits(hour, 23)?,
                minute: two_digits(minute, 59)?,
            })
        });
        time.ok_or_else(|| InvalidSchedule::TimeOfDay {
            text: excerpt(text),
        })
    }

    /// The number of seconds after midnight.
    pub(super) fn seconds_after_midnight(self) -> i64 {
        (i64::from(self.hour) * 60 + i64::from(self.minute)) * 60
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.hour, self.minute)
    }
}

impl TryFrom<String> for TimeOfDay {
    type Error = InvalidSchedule;

    fn try_from(text: String) -> Result<Self, InvalidSchedule> {
        Self::parse(&text)
    }
}

impl From<TimeOfDay> for String {
    fn from(time: TimeOfDay) -> Self {
        time.to_string()
    }
}

fn two_digits(text: &str, greatest: u8) -> Option<u8> {
    // `u8::from_str` alone would accept `+3` too.
    let all_digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|number| all_digits && *number <= greatest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_minute_of_the_day_reads_back_as_it_is_shown() {
        for hour in 0..24 {
            for minute in 0..60 {
                let time = TimeOfDay { hour, minute };
                assert_eq!(TimeOfDay::parse(&time.to_string()), Ok(time));
            }
        }
        assert_eq!(TimeOfDay::parse("03:07").unwrap().to_string(), "03:07");
    }

    #[test]
    fn anything_but_hh_mm_is_refused_by_name() {
        let wrong = [
            "",
            ":",
            "3:00",
            "03:0",
            "003:00",
            "24:00",
            "23:60",
            "+3:00",
            "-1:00",
            "03-00",
            "0300",
            "03:00:00",
            "03:00Z",
            " 03:00",
            "03:00 ",
            "3 :00",
            "aa:bb",
            "٠٣:٠٠",
            "noon",
        ];
        for text in wrong {
            let error = TimeOfDay::parse(text).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("rotate_at must be a time of day in UTC from 00:00 to 23:59, not {text:?}")
            );
        }
    }

    #[test]
    fn seconds_are_counted_from_midnight() {
        assert_eq!(
            TimeOfDay::parse("00:00").unwrap().seconds_after_midnight(),
            0
        );
        assert_eq!(
            TimeOfDay::parse("23:59").unwrap().seconds_after_midnight(),
            86_340
        );
    }
}
