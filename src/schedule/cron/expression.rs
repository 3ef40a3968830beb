//! The fields of a cron expression: their bounds, their names and how they are parsed.
//!
//! Called by [`Cron::parse`](super::Cron::parse). Parsing follows robfig/cron v3's `getField` and
//! `getRange`, including their oddities: Vault's users write the expression, and it must mean the same
//! as for every other engine. Nothing here knows about time.

use crate::schedule::error::excerpt;

/// Why a text is not a [`Cron`](super::Cron) schedule, in one sentence for its author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCron {
    /// Not five fields.
    #[error(
        "a cron schedule has five fields (minute, hour, day of month, month, day of week), not {found}"
    )]
    FieldCount {
        /// The number of fields.
        found: usize,
    },
    /// `@daily`, `@every 1h` and the like.
    #[error(
        "a cron schedule cannot be a descriptor such as @daily; write its five fields, such as \"0 0 * * *\""
    )]
    Descriptor,
    /// A `TZ=` or `CRON_TZ=` prefix.
    #[error(
        "a cron schedule cannot name a time zone; it is always in UTC, so leave out TZ= or CRON_TZ="
    )]
    TimeZone,
    /// An item that its field does not allow.
    #[error(
        "the cron schedule's {field} cannot be {item:?}; it takes {allowed} or *, also as list (a,b), range (a-b) and step (*/n)"
    )]
    Field {
        /// The field.
        field: &'static str,
        /// The invalid item as written, shortened if it is long.
        item: String,
        /// The single values that the field allows.
        allowed: &'static str,
    },
}

/// One of the five fields of a cron expression.
pub(super) struct Field {
    name: &'static str,
    low: i8,
    high: i8,
    /// Names of the values, starting at `low`.
    names: &'static [&'static str],
    allowed: &'static str,
}

/// The values that a field matches, as a bit set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Values {
    bits: u64,
    unrestricted: bool,
}

impl Field {
    /// Parses a comma-separated list; empty items are ignored, as in robfig.
    pub(super) fn parse(&self, text: &str) -> Result<Values, InvalidCron> {
        let mut values = Values {
            bits: 0,
            unrestricted: false,
        };
        for item in text.split(',').filter(|item| !item.is_empty()) {
            let matched = self.item(item).ok_or_else(|| InvalidCron::Field {
                field: self.name,
                item: excerpt(item),
                allowed: self.allowed,
            })?;
            values.bits |= matched.bits;
            values.unrestricted |= matched.unrestricted;
        }
        Ok(values)
    }

    /// Parses `*`, `N` or `N-M`, with an optional `/step`.
    fn item(&self, item: &str) -> Option<Values> {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(number(step)?)),
            None => (item, None),
        };
        let ends: Vec<&str> = range.split('-').collect();
        let (first, last, star) = match ends.as_slice() {
            // robfig ignores what follows the hyphen in `*-5`.
            ["*" | "?", ..] => (i64::from(self.low), i64::from(self.high), true),
            [only] if step.is_some() => (self.value(only)?, i64::from(self.high), false),
            [only] => (self.value(only)?, self.value(only)?, false),
            [first, last] => (self.value(first)?, self.value(last)?, false),
            _ => return None,
        };
        let step = usize::try_from(step.unwrap_or(1))
            .ok()
            .filter(|step| *step > 0)?;
        if first < i64::from(self.low) || last > i64::from(self.high) || first > last {
            return None;
        }
        Some(Values {
            bits: (first..=last)
                .step_by(step)
                .fold(0, |bits, value| bits | 1 << value),
            unrestricted: star && step == 1,
        })
    }

    /// Parses a number, or a name in either case.
    fn value(&self, text: &str) -> Option<i64> {
        let named = (i64::from(self.low)..)
            .zip(self.names)
            .find_map(|(value, name)| name.eq_ignore_ascii_case(text).then_some(value));
        named.or_else(|| number(text))
    }
}

impl Values {
    /// Whether the field matches `value`.
    pub(super) const fn contains(self, value: i8) -> bool {
        self.bits >> value & 1 == 1
    }

    /// The smallest matching value that is not below `value`.
    pub(super) fn first_from(self, value: i8) -> Option<i8> {
        let rest = self.bits >> value << value;
        (rest != 0)
            .then(|| rest.trailing_zeros())
            .and_then(|first| i8::try_from(first).ok())
    }

    /// Whether the field is unrestricted, so that only the other day field selects days.
    pub(super) const fn is_unrestricted(self) -> bool {
        self.unrestricted
    }
}

/// Parses a decimal number as Go's `strconv.Atoi` does, including a leading `+`.
fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

pub(super) const MINUTE: Field = Field {
    name: "minute",
    low: 0,
    high: 59,
    names: &[],
    allowed: "0-59",
};

pub(super) const HOUR: Field = Field {
    name: "hour",
    low: 0,
    high: 23,
    names: &[],
    allowed: "0-23",
};

pub(super) const DAY_OF_MONTH: Field = Field {
    name: "day of month",
    low: 1,
    high: 31,
    names: &[],
    allowed: "1-31",
};

pub(super) const MONTH: Field = Field {
    name: "month",
    low: 1,
    high: 12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
    allowed: "1-12, jan-dec",
};

pub(super) const DAY_OF_WEEK: Field = Field {
    name: "day of week",
    low: 0,
    high: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    allowed: "0-6, sun-sat (Sunday is 0)",
};
