//! The fields that define a schedule, as they are written and stored.
//!
//! [`Schedule`] is serialized through them. To change one field of a schedule, a caller takes the
//! fields, changes one and creates a new schedule. Only that constructor checks which combinations are
//! valid.

use serde::{Deserialize, Serialize};

use super::{Cron, InvalidSchedule, Kind, Period, Schedule, TimeOfDay, Window};

/// A schedule's fields: exactly one of `rotation_period` and `rotation_schedule`, with the fields that
/// belong to it.
///
/// Serialized as `{"rotation_period": 2592000, "rotate_at": "03:00"}` or `{"rotation_schedule": "0 3 *
/// * 0", "rotation_window": 7200}`; absent fields are omitted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fields {
    /// The time from one run to the next; in seconds when serialized.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_period: Option<Period>,
    /// The time of day of every run; only with a period of whole days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_at: Option<TimeOfDay>,
    /// When runs are due, as a cron schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_schedule: Option<Cron>,
    /// How late a run may start; only with a cron schedule; in seconds when serialized.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_window: Option<Window>,
}

impl TryFrom<Fields> for Schedule {
    type Error = InvalidSchedule;

    fn try_from(fields: Fields) -> Result<Self, InvalidSchedule> {
        let Fields {
            rotation_period,
            rotate_at,
            rotation_schedule,
            rotation_window,
        } = fields;
        match (rotation_period, rotation_schedule) {
            (None, None) => Err(InvalidSchedule::NothingRepeats),
            (Some(_), Some(_)) => Err(InvalidSchedule::TwoRepeat),
            (Some(_), None) if rotation_window.is_some() => Err(InvalidSchedule::WindowWithoutCron),
            (Some(period), None) => match rotate_at {
                Some(at) => Self::every_at(period, at),
                None => Ok(Self::every(period)),
            },
            (None, Some(_)) if rotate_at.is_some() => Err(InvalidSchedule::RotateAtWithCron),
            (None, Some(cron)) => Self::cron(cron, rotation_window),
        }
    }
}

impl From<Schedule> for Fields {
    fn from(schedule: Schedule) -> Self {
        match schedule.0 {
            Kind::Period { period } => Self {
                rotation_period: Some(period),
                ..Self::default()
            },
            Kind::PeriodAt { period, at } => Self {
                rotation_period: Some(period),
                rotate_at: Some(at),
                ..Self::default()
            },
            Kind::Cron { cron, window } => Self {
                rotation_schedule: Some(cron),
                rotation_window: window,
                ..Self::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: [&str; 4] = [
        r#"{"rotation_period":5400}"#,
        r#"{"rotation_period":2592000,"rotate_at":"03:00"}"#,
        r#"{"rotation_schedule":"0 3 * * SUN"}"#,
        r#"{"rotation_schedule":"0 3 * * 0","rotation_window":7200}"#,
    ];

    #[test]
    fn a_schedule_is_stored_in_plain_fields_and_reads_back_the_same() {
        for stored in STORED {
            let schedule: Schedule = serde_json::from_str(stored).unwrap();
            assert_eq!(serde_json::to_string(&schedule).unwrap(), stored);
            assert_eq!(
                Schedule::try_from(Fields::from(schedule.clone())),
                Ok(schedule)
            );
        }
    }

    #[test]
    fn a_schedule_can_be_part_of_a_larger_record() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Record {
            name: String,
            #[serde(flatten)]
            schedule: Schedule,
        }
        let stored = r#"{"name":"build","rotation_period":86400,"rotate_at":"23:59"}"#;
        let record: Record = serde_json::from_str(stored).unwrap();
        assert_eq!(record.schedule.to_string(), "every 1 day at 23:59 UTC");
        assert_eq!(serde_json::to_string(&record).unwrap(), stored);
    }

    #[test]
    fn fields_that_make_no_schedule_are_refused_with_the_reason() {
        let table = [
            (r"{}", "rotation_period or rotation_schedule is required"),
            (
                r#"{"rotate_at":"03:00"}"#,
                "rotation_period or rotation_schedule is required",
            ),
            (
                r#"{"rotation_period":60,"rotation_schedule":"* * * * *"}"#,
                "only one of rotation_period and rotation_schedule can be set",
            ),
            (
                r#"{"rotation_period":60,"rotation_window":3600}"#,
                "rotation_window requires rotation_schedule",
            ),
            (
                r#"{"rotation_period":3600,"rotate_at":"03:00"}"#,
                "rotate_at requires a rotation_period of whole days, such as 1d or 30d",
            ),
            (
                r#"{"rotation_schedule":"* * * * *","rotate_at":"03:00"}"#,
                "rotate_at requires rotation_period; a rotation_schedule sets its own times",
            ),
            (
                r#"{"rotation_period":0}"#,
                "rotation_period must be a whole number of seconds, at least 1",
            ),
            (
                r#"{"rotation_schedule":"* * * * *","rotation_window":3599}"#,
                "rotation_window must be a whole number of seconds, at least 3600 (1h)",
            ),
            (
                r#"{"rotation_schedule":"0 0 30 2 *"}"#,
                r#"rotation_schedule "0 0 30 2 *" never occurs: no date matches it"#,
            ),
            (r#"{"rotation_schedule":"* * * * 7"}"#, "day of week"),
            (
                r#"{"rotation_period":86400,"rotate_at":"24:00"}"#,
                "rotate_at must be",
            ),
        ];
        for (stored, reason) in table {
            let error = serde_json::from_str::<Schedule>(stored)
                .unwrap_err()
                .to_string();
            assert!(error.contains(reason), "{stored}: {error}");
        }
    }
}
