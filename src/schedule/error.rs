//! Why something is not a schedule, in sentences for the person who wrote it.
//!
//! Returned by every constructor of this floor. The fields are called what [`Fields`](super::Fields)
//! calls them.

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
        /// What was written.
        text: String,
    },
    /// Not a cron schedule.
    #[error("rotation_schedule is not valid: {0}")]
    Cron(#[from] InvalidCron),
    /// A cron schedule for dates that the calendar does not have.
    #[error("rotation_schedule {text:?} never comes true, since no date matches it")]
    NeverOccurs {
        /// What was written.
        text: String,
    },
    /// Neither a period nor a cron schedule.
    #[error("one of rotation_period and rotation_schedule is needed")]
    NothingRepeats,
    /// A period and a cron schedule.
    #[error("only one of rotation_period and rotation_schedule can be set")]
    TwoRepeat,
    /// A time of day with a period that is not made of days.
    #[error("rotate_at needs a rotation_period of whole days, such as 1d or 30d")]
    RotateAtWithoutDays,
    /// A time of day with a cron schedule.
    #[error("rotate_at goes only with rotation_period; a rotation_schedule names its own times")]
    RotateAtWithCron,
    /// A window with a period.
    #[error("rotation_window goes only with rotation_schedule")]
    WindowWithoutCron,
}
