//! Durations as Vault's users write them: `90s`, `1h30m`, `30d`, `3600`.
//!
//! Used for every duration field that arrives as text. It accepts what Vault's own
//! `parseutil.ParseDurationSecond` accepts, which is Go's `time.ParseDuration` plus seconds and days,
//! and rejects everything else. A table made with parseutil is the test. Existing crates accept other
//! dialects (`1d12h`, `1 month`, no sign, no bare number).

/// Why a text is not a duration, in one sentence for its author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDuration {
    /// Not in the form of a duration.
    #[error("{text:?} is not a duration; use seconds or a form such as 90s, 30m, 1h or 30d")]
    Malformed {
        /// The text.
        text: String,
    },
    /// More than Go's `time.Duration` can hold, which is 2^63 nanoseconds in either direction.
    #[error("{text:?} is too long for a duration; the longest is 106751d (about 292 years)")]
    OutOfRange {
        /// The text.
        text: String,
    },
}

/// Parses a duration and returns its whole seconds. Fractions of a second are truncated towards zero.
///
/// - An integer is a number of seconds; empty text is zero.
/// - An integer followed by `d` is a number of days. Days cannot be combined with other units.
/// - Anything else is Go's form: an optional sign, then decimal numbers, each with a unit, such as
///   `1h30m`, `1.5h`, `-5m`, `.5s`. The units are `ns`, `us` (or `µs`), `ms`, `s`, `m` and `h`.
///
/// White space is not allowed. Negative durations are valid here; each field decides whether it accepts
/// them.
///
/// # Errors
///
/// [`InvalidDuration::Malformed`] for any other text, [`InvalidDuration::OutOfRange`] beyond 292 years
/// in either direction.
pub fn parse(text: &str) -> Result<i64, InvalidDuration> {
    match nanoseconds(text) {
        Ok(nanoseconds) => Ok(nanoseconds / NANOSECONDS_PER_SECOND),
        Err(Fault::Malformed) => Err(InvalidDuration::Malformed {
            text: text.to_owned(),
        }),
        Err(Fault::OutOfRange) => Err(InvalidDuration::OutOfRange {
            text: text.to_owned(),
        }),
    }
}

enum Fault {
    Malformed,
    OutOfRange,
}

fn nanoseconds(text: &str) -> Result<i64, Fault> {
    if text.is_empty() {
        return Ok(0);
    }
    if let Some(seconds) = integer(text) {
        return seconds?
            .checked_mul(NANOSECONDS_PER_SECOND)
            .ok_or(Fault::OutOfRange);
    }
    if let Some(days) = text.strip_suffix('d') {
        let days = integer(days).ok_or(Fault::Malformed)??;
        return days
            .checked_mul(24 * 3600 * NANOSECONDS_PER_SECOND)
            .ok_or(Fault::OutOfRange);
    }
    go_duration(text)
}

/// Parses a decimal integer with an optional sign; `None` if the text is not one.
fn integer(text: &str) -> Option<Result<i64, Fault>> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};

    match text.parse() {
        Ok(number) => Some(Ok(number)),
        Err(error) if matches!(error.kind(), PosOverflow | NegOverflow) => {
            Some(Err(Fault::OutOfRange))
        }
        Err(_) => None,
    }
}

/// Parses what Go's `time.ParseDuration` accepts.
fn go_duration(text: &str) -> Result<i64, Fault> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() {
        return Err(Fault::Malformed);
    }
    let mut total = 0_u64;
    let mut out_of_range = false;
    while !rest.is_empty() {
        let (term, after) = Term::split_from(rest).ok_or(Fault::Malformed)?;
        // The rest is still parsed: a text that is both too long and malformed is malformed.
        match term
            .nanoseconds()
            .and_then(|length| total.checked_add(length))
        {
            Some(sum) => total = sum,
            None => out_of_range = true,
        }
        rest = after;
    }
    let signed = if negative {
        0_i64.checked_sub_unsigned(total)
    } else {
        0_i64.checked_add_unsigned(total)
    };
    signed.filter(|_| !out_of_range).ok_or(Fault::OutOfRange)
}

/// A decimal number with its unit, such as `1.5h`.
struct Term<'a> {
    /// Digits before the point; may be empty if there are digits after it.
    whole: &'a str,
    /// Digits after the point.
    fraction: &'a str,
    /// The unit in nanoseconds.
    unit: u64,
}

impl<'a> Term<'a> {
    /// Splits one term from the front of `text`; also returns the rest.
    fn split_from(text: &'a str) -> Option<(Self, &'a str)> {
        let (whole, rest) = split_digits(text);
        let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), split_digits);
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let end = rest
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(end);
        Some((
            Self {
                whole,
                fraction,
                unit: unit_in_nanoseconds(unit)?,
            },
            rest,
        ))
    }

    /// The term's length; `None` if it exceeds a `u64`.
    fn nanoseconds(&self) -> Option<u64> {
        let whole: u64 = if self.whole.is_empty() {
            0
        } else {
            self.whole.parse().ok()?
        };
        whole
            .checked_mul(self.unit)?
            .checked_add(self.fraction_in_nanoseconds())
    }

    /// The part after the point, in floating point because Go rounds that way.
    fn fraction_in_nanoseconds(&self) -> u64 {
        let (mut numerator, mut denominator) = (0_u64, 1_f64);
        for digit in self.fraction.bytes().map(|byte| u64::from(byte - b'0')) {
            let longer = numerator.checked_mul(10).and_then(|n| n.checked_add(digit));
            // Like Go, ignore the digits that do not fit; they are far below a nanosecond.
            let Some(longer) = longer else { break };
            numerator = longer;
            denominator *= 10.0;
        }
        (numerator as f64 * (self.unit as f64 / denominator)) as u64
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

fn unit_in_nanoseconds(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        // The micro sign and the Greek letter mu.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3600 * 1_000_000_000,
        _ => return None,
    })
}

const NANOSECONDS_PER_SECOND: i64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_text_means_what_parseutil_says() {
        let table = include_str!("../../tests/data/durations/parseutil.tsv");
        for (number, row) in table.lines().enumerate() {
            let (text, expected) = row.split_once('\t').unwrap();
            let answer = nanoseconds(text).map_or("refused".to_owned(), |n| n.to_string());
            assert_eq!(answer, expected, "row {number}: {text:?}");
        }
        assert!(table.lines().count() > 1_000);
    }

    #[test]
    fn a_fraction_of_a_second_is_dropped_towards_zero() {
        let table = [
            ("", 0),
            ("90", 90),
            ("1.9s", 1),
            ("-1.9s", -1),
            ("999ms", 0),
            ("0.5h", 1_800),
        ];
        for (text, seconds) in table {
            assert_eq!(parse(text), Ok(seconds), "{text:?}");
        }
    }

    #[test]
    fn a_refusal_says_which_forms_there_are() {
        for text in [
            "abc",
            "1d12h",
            "1.5d",
            " 5",
            "5 s",
            "1y",
            "-",
            ".",
            "1h30",
            "99999999999999d x",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert_eq!(
                error,
                format!(
                    "{text:?} is not a duration; use seconds or a form such as 90s, 30m, 1h or 30d"
                )
            );
        }
    }

    #[test]
    fn more_than_292_years_is_out_of_range() {
        assert_eq!(parse("106751d"), Ok(106_751 * 86_400));
        assert_eq!(parse("-9223372036"), Ok(-9_223_372_036));
        // Go wraps around to zero for the last one, which is not worth imitating.
        let too_long = [
            "106752d",
            "9223372037",
            "-9223372037",
            "99999999999999999999",
            "99999999999999999999d",
            "99999999999999999999s",
            "2562048h",
            "9223372036854775808ns",
            "9223372036854775808ns9223372036854775808ns",
        ];
        for text in too_long {
            let out_of_range = InvalidDuration::OutOfRange {
                text: text.to_owned(),
            };
            assert_eq!(parse(text), Err(out_of_range));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[-+0-9.dhmsnuµ]{0,40}|\\PC{0,20}") {
            let _ = parse(&text);
        }

        #[test]
        fn hours_minutes_and_seconds_add_up(h in 0..1000_i64, m in 0..1000_i64, s in 0..1000_i64) {
            let text = format!("{h}h{m}m{s}s");
            prop_assert_eq!(parse(&text), Ok((h * 60 + m) * 60 + s));
            prop_assert_eq!(parse(&format!("-{text}")), Ok(-((h * 60 + m) * 60 + s)));
        }
    }
}
