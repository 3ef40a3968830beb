//! When each task is due, and which one is next.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use jiff::Timestamp;

/// Times by task and tasks by time.
pub(super) struct Timetable<T> {
    by_time: BTreeSet<(Timestamp, T)>,
    by_task: HashMap<T, Timestamp>,
}

impl<T: Clone + Ord + Hash> Timetable<T> {
    /// Sets the time of a task. Returns whether that makes the next due time earlier.
    pub(super) fn set(&mut self, task: T, at: Timestamp) -> bool {
        let before = self.next();
        self.remove(&task);
        self.by_task.insert(task.clone(), at);
        self.by_time.insert((at, task));
        before.is_none_or(|before| at < before)
    }

    /// The time of a task.
    pub(super) fn time_of(&self, task: &T) -> Option<Timestamp> {
        self.by_task.get(task).copied()
    }

    /// Removes a task.
    pub(super) fn remove(&mut self, task: &T) {
        if let Some(at) = self.by_task.remove(task) {
            self.by_time.remove(&(at, task.clone()));
        }
    }

    /// Removes and returns everything that is due.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<T> {
        let mut due = Vec::new();
        while self.next().is_some_and(|next| next <= now)
            && let Some((_, task)) = self.by_time.pop_first()
        {
            self.by_task.remove(&task);
            due.push(task);
        }
        due
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _)| *at)
    }
}

impl<T> Default for Timetable<T> {
    fn default() -> Self {
        Self {
            by_time: BTreeSet::new(),
            by_task: HashMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn due_tasks_come_out_in_order_and_once() {
        let mut table = Timetable::default();
        table.set("b", at(20));
        table.set("a", at(10));
        table.set("c", at(30));
        assert_eq!(table.due(at(20)), ["a", "b"]);
        assert_eq!(table.due(at(20)), [""; 0]);
        assert_eq!(table.next(), Some(at(30)));
    }

    #[test]
    fn a_task_has_one_time() {
        let mut table = Timetable::default();
        table.set("a", at(10));
        table.set("a", at(50));
        assert_eq!(table.due(at(49)), [""; 0]);
        assert_eq!(table.time_of(&"a"), Some(at(50)));
        table.remove(&"a");
        assert_eq!(table.time_of(&"a"), None);
        assert_eq!(table.next(), None);
    }

    #[test]
    fn only_an_earlier_next_time_wakes_the_sleeper() {
        let mut table = Timetable::default();
        assert!(table.set("a", at(10)));
        assert!(!table.set("b", at(20)));
        assert!(table.set("b", at(5)));
    }
}
