//! Why values are not a schedule, in sentences for their author.
//!
//! Returned by every constructor of this floor. Field names are those of [`Fields`](super::Fields).

use super::InvalidCron;

/// Why values do not make a [`Schedule`](super::Schedule).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSchedule {
    /// The period is shorter than a second or has a fraction of one.
    #[error("rotation_period must be a whole number of seconds, at least 1")]
    Period,
    /// The window is shorter than an hour or has a fraction of a second.
    #[error("rotation_window must be a whole number of seconds, at least 3600 (1h)")]
    Window,
    /// Not a time of day.
    #[error("rotate_at must be a time of day in UTC from 00:00 to 23:59, not {text:?}")]
    TimeOfDay {
        /// The text, shortened if it is long.
        text: String,
    },
    /// Not a cron schedule.
    #[error("rotation_schedule is not valid: {0}")]
    Cron(#[from] InvalidCron),
    /// A cron schedule that matches no date of the calendar.
    #[error("rotation_schedule {text:?} never occurs: no date matches it")]
    NeverOccurs {
        /// The text, shortened if it is long.
        text: String,
    },
    /// Neither a period nor a cron schedule.
    #[error("rotation_period or rotation_schedule is required")]
    NothingRepeats,
    /// Both a period and a cron schedule.
    #[error("only one of rotation_period and rotation_schedule can be set")]
    TwoRepeat,
    /// A time of day with a period that is not whole days.
    #[error("rotate_at requires a rotation_period of whole days, such as 1d or 30d")]
    RotateAtWithoutDays,
    /// A time of day with a cron schedule.
    #[error("rotate_at requires rotation_period; a rotation_schedule sets its own times")]
    RotateAtWithCron,
    /// A window with a period.
    #[error("rotation_window requires rotation_schedule")]
    WindowWithoutCron,
}

/// The beginning of a text, enough to recognise it. A user who pastes the wrong value, for example a
/// key, should not see all of it again.
pub(super) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(EXCERPT_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

const EXCERPT_CHARS: usize = 24;

#[cfg(test)]
mod tests {
    use crate::schedule::{Cron, TimeOfDay};

    #[test]
    fn a_refusal_repeats_no_more_than_the_beginning_of_what_was_written() {
        let pasted = format!("sk-or-v1-{}", "0123456789".repeat(50));
        let cron = Cron::parse(&format!("* * * * {pasted}")).unwrap_err();
        let time = TimeOfDay::parse(&pasted).unwrap_err();
        for refusal in [cron.to_string(), time.to_string()] {
            assert!(
                refusal.contains("\"sk-or-v1-012345678901234…\""),
                "{refusal}"
            );
            assert!(refusal.len() < 250, "{refusal}");
        }
    }
}
