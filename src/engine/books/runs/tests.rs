//! When a teardown is in force, and what is known of a run whose write failed.

use super::*;
use crate::engine::books::run::Work;
use crate::engine::books::searches::OUTLIVED;
use crate::logical::MemoryStorage;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn teardown(began: i64) -> Run {
    Run::new(Work::Teardown { cancelled: None }, at(began))
}

#[tokio::test]
async fn a_teardown_is_in_force_from_its_order_to_its_cancellation_whether_it_is_over_or_not() {
    let (runs, storage) = (Runs::default(), MemoryStorage::default());
    let store = |run| runs.store(&storage, &RunId::Teardown, run, at(5));
    assert_eq!(runs.torn_down_since(), None);
    store(teardown(5)).await.unwrap();
    assert_eq!(runs.torn_down_since(), Some(at(5)));
    let ended = Run {
        ended: Some(at(6)),
        ..teardown(5)
    };
    store(ended.clone()).await.unwrap();
    assert_eq!(runs.torn_down_since(), Some(at(5)));
    assert_eq!(runs.active(), []);
    let work = Work::Teardown {
        cancelled: Some(at(7)),
    };
    store(Run { work, ..ended }).await.unwrap();
    assert_eq!(runs.torn_down_since(), None);
}

#[tokio::test]
async fn what_was_stored_is_known_to_the_next_process() {
    let storage = MemoryStorage::default();
    let run = teardown(5);
    let first = Runs::default();
    first
        .store(&storage, &RunId::Teardown, run.clone(), at(5))
        .await
        .unwrap();
    let second = Runs::default();
    let readable = |reason| panic!("{reason}");
    second.load(&storage, at(6), readable).await.unwrap();
    assert_eq!(second.get(&RunId::Teardown), Some(run));
    assert_eq!(second.active(), [RunId::Teardown]);
    second.forget();
    assert_eq!(second.torn_down_since(), None);
}

#[tokio::test]
async fn only_the_teardown_that_is_in_force_can_be_proved() {
    let (runs, storage) = (Runs::default(), MemoryStorage::default());
    let id = RunId::Teardown;
    runs.store(&storage, &id, teardown(5), at(5)).await.unwrap();
    let progress = Outcome {
        done: 3,
        ..Outcome::default()
    };
    runs.note(&id, at(5), progress.clone());
    assert!(
        runs.prove_torn_down(&storage, at(4), at(6))
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        runs.prove_torn_down(&storage, at(5), at(6))
            .await
            .unwrap()
            .is_some()
    );
    let _held = runs.lock(&id).await;
    let read = runs.reload(&storage, &id).await.unwrap().unwrap();
    assert_eq!(read.outcome, progress, "only memory knows how far it is");
    let next = Runs::default();
    let readable = |reason| panic!("{reason}");
    next.load(&storage, at(7), readable).await.unwrap();
    assert_eq!(
        next.get(&id),
        Some(teardown(5)),
        "it is stored as it was ordered"
    );
}

/// Before that it could still take effect, and the next leader would carry it out.
#[tokio::test]
async fn a_run_that_this_node_does_not_know_is_removed_once_no_write_can_bring_it_back() {
    let (runs, storage) = (Runs::default(), MemoryStorage::default());
    let id = RunId::Teardown;
    stored::store::<Run>(&storage, &id.key(), &teardown(5))
        .await
        .unwrap();
    runs.unsure.store_begins(&id, at(5));
    assert_eq!(runs.in_doubt(), [RunId::Teardown]);
    let certain = at(5 + OUTLIVED.cast_signed());
    for early in [at(5), at(4 + OUTLIVED.cast_signed())] {
        let next = runs.confirm(&storage, &id, early).await.unwrap();
        assert_eq!(next, Some(certain));
        assert!(!storage.keys().is_empty());
    }
    assert_eq!(runs.confirm(&storage, &id, certain).await.unwrap(), None);
    assert!(storage.keys().is_empty());
    assert_eq!(runs.in_doubt(), []);
}

#[tokio::test]
async fn a_node_that_steps_down_leaves_its_doubts_behind() {
    let runs = Runs::default();
    runs.unsure.store_begins(&RunId::Teardown, at(5));
    runs.forget();
    assert_eq!(runs.in_doubt(), []);
}
