//! Listings with keys that are created and deleted between pages.

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// A list at OpenRouter, newest first, and how far it has been read.
struct Reading {
    list: Vec<usize>,
    created: usize,
    pages: Pages,
    /// How often each key was visited.
    visits: HashMap<usize, usize>,
    requests: Vec<usize>,
}

impl Reading {
    fn of(length: usize) -> Self {
        Self {
            list: (0..length).collect(),
            created: length,
            pages: Pages::new(),
            visits: HashMap::new(),
            requests: Vec::new(),
        }
    }

    /// Requests and receives the next page.
    fn step(&mut self) -> Result<Progress, Error> {
        let rest = self.list.iter().skip(self.pages.offset());
        self.receive(rest.take(FULL_PAGE).copied().collect())
    }

    /// Receives these keys, whatever was requested.
    fn receive(&mut self, page: Vec<usize>) -> Result<Progress, Error> {
        self.receive_odd(page.into_iter().map(key).collect())
    }

    fn receive_odd(&mut self, page: Vec<ListedKey>) -> Result<Progress, Error> {
        self.requests.push(self.pages.offset());
        let visits = &mut self.visits;
        self.pages.take(page, &mut |key| {
            let number = key.name.parse().unwrap();
            *visits.entry(number).or_default() += 1;
            Ok(())
        })
    }

    /// Reads the rest while the list does not change.
    fn finish(&mut self) -> Result<(), Error> {
        while self.step()? == Progress::MoreToCome {}
        Ok(())
    }

    fn create(&mut self, count: usize) {
        let new = self.created..self.created + count;
        self.created = new.end;
        self.list.splice(0..0, new.rev());
    }

    /// Deletes a range of keys, which may start anywhere.
    fn delete(&mut self, start: usize, count: usize) {
        let start = start.min(self.list.len());
        let end = (start + count).min(self.list.len());
        self.list.drain(start..end);
    }

    /// Applies one change.
    fn change(&mut self, change: &Change) {
        match *change {
            Change::Create(count) => self.create(count),
            Change::Delete { at, count } => {
                let start = (at * self.list.len() as f64) as usize;
                self.delete(start, count);
            }
        }
    }

    /// The keys that existed before and still exist, and how often each was visited.
    fn visits_of_those_that_stayed(&self, before: usize) -> Vec<(usize, usize)> {
        let stayed = self.list.iter().filter(|number| **number < before);
        let visits = |number: &usize| self.visits.get(number).copied().unwrap_or_default();
        stayed.map(|number| (*number, visits(number))).collect()
    }

    /// No remaining key was skipped, and no key was visited twice.
    fn assert_complete(&self, before: usize) {
        let wrong = self.visits_of_those_that_stayed(before);
        let wrong: Vec<_> = wrong
            .into_iter()
            .filter(|(_, visits)| *visits != 1)
            .collect();
        assert_eq!(wrong, [], "requests {:?}", self.requests);
        assert!(self.visits.values().all(|visits| *visits == 1));
    }
}

fn key(number: usize) -> ListedKey {
    let hash = KeyHash::parse(&format!("{number:064x}")).unwrap();
    ListedKey {
        hash: Some(hash),
        ..without_hash(number)
    }
}

fn without_hash(number: usize) -> ListedKey {
    ListedKey {
        name: number.to_string(),
        hash: None,
        position: number,
        whole: Value::Null,
    }
}

#[derive(Clone, Debug)]
enum Change {
    Create(usize),
    /// A range of keys, starting at this fraction of the list.
    Delete {
        at: f64,
        count: usize,
    },
}

fn changes(most_created: usize, most_deleted: usize) -> impl Strategy<Value = Vec<Change>> {
    let deletion = (0.0..1.0_f64, 0..=most_deleted);
    let deletion = deletion.prop_map(|(at, count)| Change::Delete { at, count });
    let creation = (0..=most_created).prop_map(Change::Create);
    (deletion, creation, any::<bool>()).prop_map(|(deletion, creation, first)| {
        if first {
            vec![deletion, creation]
        } else {
            vec![creation, deletion]
        }
    })
}

/// The changes after each of the first pages: mostly few, sometimes many.
fn turmoil() -> impl Strategy<Value = Vec<Vec<Change>>> {
    let gap = prop_oneof![
        4 => Just(Vec::new()),
        6 => changes(5, 3),
        2 => changes(120, 120),
        1 => changes(400, 400),
    ];
    prop::collection::vec(gap, 0..30)
}

proptest! {
    #[test]
    fn what_stays_is_visited_once_whatever_happens_meanwhile_or_the_listing_fails(
        length in 0..500_usize, turmoil in turmoil(),
    ) {
        let mut reading = Reading::of(length);
        let mut turmoil = turmoil.iter();
        let ended = loop {
            match reading.step() {
                Ok(Progress::Ended) => break true,
                Ok(Progress::MoreToCome) => {}
                Err(_) => break false,
            }
            for change in turmoil.next().into_iter().flatten() {
                reading.change(change);
            }
        };
        if ended {
            reading.assert_complete(length);
        }
    }

    #[test]
    fn up_to_fifteen_deletions_and_fifty_creations_after_each_page_never_make_it_fail(
        length in 0..500_usize,
        little in prop::collection::vec(changes(50, 15), 30),
    ) {
        let mut reading = Reading::of(length);
        let mut little = little.iter().cycle();
        while reading.step().unwrap() == Progress::MoreToCome {
            for change in little.next().unwrap() {
                reading.change(change);
            }
        }
        reading.assert_complete(length);
        prop_assert!(reading.requests.len() <= 200, "{}", reading.requests.len());
    }

    #[test]
    fn one_burst_of_deletions_never_makes_it_fail(
        length in 0..1_500_usize, pages in 0..15_usize, at in 0.0..1.0_f64, count in 0..1_500_usize,
    ) {
        let mut reading = Reading::of(length);
        let mut pages = (0..pages).map(|_| reading.step().unwrap());
        if pages.all(|progress| progress == Progress::MoreToCome) {
            reading.change(&Change::Delete { at, count });
            reading.finish().unwrap();
        }
        reading.assert_complete(length);
    }
}

#[test]
fn a_request_brings_99_new_keys() {
    for (length, requests) in [
        (0, vec![0]),
        (1, vec![0]),
        (99, vec![0]),
        (100, vec![0, 99]),
        (198, vec![0, 99]),
        (199, vec![0, 99, 198]),
        (200, vec![0, 99, 198]),
        (297, vec![0, 99, 198]),
        (298, vec![0, 99, 198, 297]),
    ] {
        let mut reading = Reading::of(length);
        reading.finish().unwrap();
        assert_eq!(reading.requests, requests, "{length} keys");
        reading.assert_complete(length);
    }
}

#[test]
fn a_page_that_lost_its_overlap_is_asked_for_again_a_little_further_back() {
    for (deleted, offsets) in [
        (1, vec![0, 99, 198, 195, 294]),
        (4, vec![0, 99, 198, 195, 183, 282]),
        (16, vec![0, 99, 198, 195, 183, 135, 234]),
    ] {
        let mut reading = Reading::of(300 + deleted);
        reading.step().unwrap();
        reading.step().unwrap();
        reading.delete(100, deleted);
        reading.finish().unwrap();
        assert!(
            reading.requests.starts_with(&offsets),
            "{:?}",
            reading.requests
        );
        reading.assert_complete(300 + deleted);
    }
}

#[test]
fn a_short_or_empty_page_that_lost_its_overlap_is_no_end() {
    for length in [100, 101, 150] {
        let mut reading = Reading::of(length);
        assert_eq!(reading.step(), Ok(Progress::MoreToCome));
        // The last key of the page, with which the next one would begin.
        reading.delete(99, 1);
        assert_eq!(reading.step(), Ok(Progress::MoreToCome), "{length} keys");
        reading.finish().unwrap();
        reading.assert_complete(length);
    }
}

#[test]
fn when_all_that_was_read_is_gone_it_begins_again_at_the_start() {
    let mut reading = Reading::of(500);
    for _ in 0..3 {
        reading.step().unwrap();
    }
    reading.delete(0, 400);
    reading.finish().unwrap();
    assert!(reading.requests.iter().skip(1).any(|offset| *offset == 0));
    reading.assert_complete(500);
}

#[test]
fn keys_created_meanwhile_by_the_thousand_hide_none() {
    let mut reading = Reading::of(500);
    for _ in 0..3 {
        reading.step().unwrap();
    }
    reading.create(5_000);
    reading.finish().unwrap();
    reading.assert_complete(500);
}

#[test]
fn keys_of_a_page_that_proves_nothing_are_no_overlap_for_the_next() {
    let mut reading = Reading::of(0);
    reading.receive((0..100).collect()).unwrap();
    reading.receive((200..300).collect()).unwrap();
    assert_eq!(
        reading.receive((250..260).collect()),
        Ok(Progress::MoreToCome)
    );
    assert_eq!(reading.visits.len(), 100);
}

#[test]
fn keys_without_a_hash_are_visited_and_prove_no_overlap() {
    let mut reading = Reading::of(0);
    let first = (0..97).map(key).chain((97..100).map(without_hash));
    reading.receive_odd(first.collect()).unwrap();
    // Not the same as on the previous page: a duplicate.
    let double = vec![without_hash(99), key(150)];
    assert_eq!(reading.receive_odd(double), Ok(Progress::MoreToCome));
    assert!(!reading.visits.contains_key(&150));
    let further_back = vec![key(96), without_hash(97), without_hash(99), key(150)];
    assert_eq!(reading.receive_odd(further_back), Ok(Progress::Ended));
    assert_eq!(reading.requests, [0, 99, 96]);
    let visits = [96, 97, 99, 150].map(|number| reading.visits[&number]);
    assert_eq!(visits, [1, 2, 2, 1]);
}

#[test]
fn a_server_that_ignores_the_offset_is_an_error() {
    let mut reading = Reading::of(0);
    let page = || (0..100).rev().collect();
    assert_eq!(reading.receive(page()), Ok(Progress::MoreToCome));
    let error = reading.receive(page()).unwrap_err();
    assert!(
        error.to_string().ends_with("only repeats the one before"),
        "{error}"
    );
}

#[test]
fn a_server_that_has_nothing_behind_its_first_page_is_an_error() {
    let mut reading = Reading::of(0);
    let error = loop {
        let asked = reading.pages.offset();
        let page = if asked == 0 {
            (0..100).collect()
        } else {
            vec![]
        };
        match reading.receive(page) {
            Ok(progress) => assert_eq!(progress, Progress::MoreToCome),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().ends_with("gaps between them"), "{error}");
    assert!(!error.is_definite());
    let lost = reading.requests.iter().filter(|offset| **offset > 0);
    assert_eq!(lost.count(), MAX_LOST + 1);
}

#[test]
fn a_listing_without_end_is_an_error() {
    let mut reading = Reading::of(0);
    for page in 1..MAX_PAGES {
        let keys = page * 99..page * 99 + 100;
        assert_eq!(reading.receive(keys.collect()), Ok(Progress::MoreToCome));
    }
    let keys = MAX_PAGES * 99..MAX_PAGES * 99 + 100;
    let error = reading.receive(keys.collect()).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("has not ended after 2000 pages"),
        "{error}"
    );
}

#[test]
fn a_visit_that_fails_ends_the_listing() {
    let refusal = Error::unclear("not readable");
    let taken = Pages::new().take(vec![key(1)], &mut |_| Err(refusal.clone()));
    assert_eq!(taken, Err(refusal));
}

#[test]
fn a_walk_that_was_broken_off_goes_on_after_the_key_where_it_ended() {
    let mut reading = Reading::of(350);
    reading.pages = Pages::after(key(149).hash.as_ref().unwrap(), 149);
    reading.finish().unwrap();
    assert_eq!(reading.requests[0], 149);
    assert_eq!(reading.visits.len(), 200);
    assert!((150..350).all(|number| reading.visits[&number] == 1));
}

#[test]
fn a_walk_goes_on_further_back_where_its_last_key_has_moved_or_is_gone() {
    for (start, count) in [(50, 100), (120, 30), (0, 30)] {
        let mut reading = Reading::of(350);
        reading.pages = Pages::after(key(149).hash.as_ref().unwrap(), 149);
        reading.delete(start, count);
        reading.finish().unwrap();
        assert!((150..350).all(|number| reading.visits[&number] == 1));
    }
}
