//! Invariants of cron schedules.

use std::time::Duration;

use jiff::Timestamp;

use super::{Cron, Schedule};
use crate::invariants::assert_can_be_shown;

/// The input is the schedule and, after the last `@`, the start in seconds since 1970.
pub fn cron(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let (text, from) = match text.rsplit_once('@') {
        Some((text, second)) => (text, second.parse().unwrap_or_default()),
        None => (text, 0),
    };
    let from = Timestamp::from_second(from).unwrap_or_default();
    // The longest text that a request field accepts.
    let text: String = text.chars().take(512).collect();
    match Cron::parse(&text) {
        Err(refusal) => assert_can_be_shown(&refusal.to_string()),
        Ok(cron) => {
            assert_eq!(
                Cron::parse(cron.as_str()),
                Ok(cron.clone()),
                "it reads back"
            );
            next_is_the_first(&cron, from);
            match Schedule::cron(cron.clone(), None) {
                Err(refusal) => assert_can_be_shown(&refusal.to_string()),
                Ok(schedule) => {
                    let stored = serde_json::to_string(&schedule).unwrap_or_default();
                    let restored = serde_json::from_str::<Schedule>(&stored);
                    assert_eq!(restored.ok(), Some(schedule), "it is stored as it is");
                }
            }
        }
    }
}

fn next_is_the_first(cron: &Cron, from: Timestamp) {
    let next = cron.next_after(from);
    let gap = cron.longest_gap(from);
    assert_eq!(
        gap.is_some(),
        next.is_some(),
        "a gap ends with an occurrence"
    );
    let (Some(next), Some(gap)) = (next, gap) else {
        return;
    };
    assert!(next > from, "{next} is not after {from}");
    assert_eq!((next.as_second() % 60, next.subsec_nanosecond()), (0, 0));
    let wait = Duration::try_from(next.duration_since(from)).unwrap_or_default();
    assert!(wait <= gap, "a wait of {wait:?}, the longest being {gap:?}");
    // A later search that starts before the occurrence finds the same one.
    for part in 1..4 {
        let later = from.saturating_add(wait / 4 * part);
        assert_eq!(
            later.ok().and_then(|later| cron.next_after(later)),
            Some(next)
        );
    }
}
