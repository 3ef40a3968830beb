//! What the log keeps in memory, what it stores, and what it ignores.

use super::*;
use crate::logical::MemoryStorage;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[tokio::test]
async fn an_entry_outlives_the_process_until_it_is_deleted() {
    let storage = MemoryStorage::default();
    let log = Log::<String>::new("create", 1);
    let data = "app".to_owned();
    log.put(&storage, "n1", data, at(1_000)).await.unwrap();

    let later = Log::<String>::new("create", 1);
    assert!(load(&storage, &[&later]).await.unwrap().is_empty());
    let written = later.entry("n1").unwrap();
    assert_eq!((written.data.as_str(), written.at), ("app", at(1_000)));

    later.delete(&storage, "n1").await.unwrap();
    assert!(later.entries().is_empty());
    assert!(storage.keys().is_empty());
}

struct ReadOnly;

#[async_trait::async_trait]
impl Storage for ReadOnly {
    async fn get(&self, _: &str) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(None)
    }
    async fn put(&self, _: Entry) -> Result<(), StorageError> {
        Err(StorageError::ReadOnly)
    }
    async fn delete(&self, _: &str) -> Result<(), StorageError> {
        Err(StorageError::ReadOnly)
    }
    async fn list(&self, _: &str) -> Result<Vec<String>, StorageError> {
        Ok(Vec::new())
    }
}

#[tokio::test]
async fn what_a_node_that_may_not_write_announced_is_not_known() {
    let log = Log::<String>::new("create", 1);
    let put = log.put(&ReadOnly, "n1", "app".to_owned(), at(1)).await;
    assert_eq!(put, Err(StorageError::ReadOnly));
    assert!(log.entries().is_empty());
}

#[tokio::test]
async fn other_kinds_and_broken_entries_are_left_alone() {
    let storage = MemoryStorage::default();
    let other = Log::<String>::new("other", 1);
    let data = "x".to_owned();
    other.put(&storage, "n1", data, at(1)).await.unwrap();
    let broken = Entry {
        key: "wal/n2".to_owned(),
        value: b"{".to_vec(),
    };
    storage.put(broken).await.unwrap();

    let log = Log::<String>::new("create", 1);
    let unreadable = load(&storage, &[&log]).await.unwrap();
    assert_eq!(unreadable.len(), 1);
    assert!(log.entries().is_empty());
    assert_eq!(storage.keys(), ["wal/n1", "wal/n2"]);
}

#[tokio::test]
async fn each_entry_is_read_once_into_the_log_of_its_kind() {
    let storage = MemoryStorage::default();
    let (texts, numbers) = (Log::<String>::new("text", 1), Log::<u32>::new("number", 1));
    let data = "app".to_owned();
    texts.put(&storage, "n1", data, at(1)).await.unwrap();
    numbers.put(&storage, "n2", 5, at(2)).await.unwrap();
    let of_another_kind = Log::<String>::new("number", 1);
    let data = "five".to_owned();
    of_another_kind
        .put(&storage, "n3", data, at(3))
        .await
        .unwrap();

    let later = (Log::<String>::new("text", 1), Log::<u32>::new("number", 1));
    let unreadable = load(&storage, &[&later.0, &later.1]).await.unwrap();
    assert_eq!(unreadable.len(), 1);
    assert!(
        unreadable[0].to_string().contains("wal/n3"),
        "{unreadable:?}"
    );
    assert_eq!(later.0.entries(), texts.entries());
    assert_eq!(later.1.entries(), numbers.entries());
}

#[tokio::test]
async fn an_entry_that_was_overwritten_is_of_the_new_kind_only() {
    let storage = MemoryStorage::default();
    let (before, after) = (Log::<String>::new("text", 1), Log::<u32>::new("number", 1));
    let data = "app".to_owned();
    before.put(&storage, "n1", data, at(1)).await.unwrap();
    after.overwrite(&storage, "n1", 5, at(2)).await.unwrap();
    before.overwritten("n1");
    assert!(before.entries().is_empty());
    let later = (Log::<String>::new("text", 1), Log::<u32>::new("number", 1));
    load(&storage, &[&later.0, &later.1]).await.unwrap();
    assert!(later.0.entries().is_empty());
    assert_eq!(later.1.entries(), after.entries());
    let lost = after.overwrite(&ReadOnly, "n1", 6, at(3)).await;
    assert_eq!(lost, Err(StorageError::ReadOnly));
    assert_eq!(after.entry("n1").unwrap().data, 5, "what was there holds");
}

#[tokio::test]
async fn the_stored_form_is_that_of_vaults_own_framework() {
    let storage = MemoryStorage::default();
    let log = Log::<String>::new("create", 1);
    let data = "app".to_owned();
    log.put(&storage, "n1", data, at(1_000)).await.unwrap();
    let stored = storage.get("wal/n1").await.unwrap().unwrap();
    assert_eq!(
        String::from_utf8(stored).unwrap(),
        r#"{"type":"create","version":1,"data":"app","created_at":1000}"#
    );
}

#[tokio::test]
async fn an_amended_entry_keeps_its_time_and_one_that_is_not_there_stays_so() {
    let storage = MemoryStorage::default();
    let log = Log::<String>::new("create", 1);
    let data = "app".to_owned();
    log.put(&storage, "n1", data, at(1_000)).await.unwrap();
    for id in ["n1", "n2"] {
        let amended = log.amend(&storage, id, |data| data.push('!'));
        amended.await.unwrap();
    }
    let later = Log::<String>::new("create", 1);
    load(&storage, &[&later]).await.unwrap();
    assert_eq!(later.entries(), log.entries());
    let written = later.entry("n1").unwrap();
    assert_eq!((written.data.as_str(), written.at), ("app!", at(1_000)));
    assert_eq!(storage.keys(), ["wal/n1"]);
}

/// Pauses after a read until it is told to continue.
#[derive(Default)]
struct SlowToRead {
    storage: MemoryStorage,
    has_read: tokio::sync::Notify,
    go_on: tokio::sync::Notify,
}

#[async_trait::async_trait]
impl Storage for SlowToRead {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        let value = self.storage.get(key).await;
        self.has_read.notify_one();
        self.go_on.notified().await;
        value
    }
    async fn put(&self, entry: Entry) -> Result<(), StorageError> {
        self.storage.put(entry).await
    }
    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.storage.delete(key).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        self.storage.list(prefix).await
    }
}

#[tokio::test]
async fn entries_deleted_or_amended_while_the_log_is_read_stay_so() {
    let storage = SlowToRead::default();
    let log = Log::<String>::new("create", 1);
    for id in ["n1", "n2"] {
        let data = "app".to_owned();
        log.put(&storage, id, data, at(1)).await.unwrap();
    }
    let meanwhile = async {
        storage.has_read.notified().await;
        log.delete(&storage, "n1").await.unwrap();
        storage.go_on.notify_one();
        storage.has_read.notified().await;
        let amended = log.amend(&storage, "n2", |data| data.push('!'));
        amended.await.unwrap();
        storage.go_on.notify_one();
    };
    let logs: [&dyn Kind; 1] = [&log];
    let (loaded, ()) = tokio::join!(load(&storage, &logs), meanwhile);
    assert_eq!(loaded, Ok(Vec::new()));
    let known: Vec<_> = log.entries();
    assert_eq!(known.len(), 1, "{known:?}");
    assert_eq!(known[0].1.data, "app!");
}

/// How many entries there are of each text.
#[derive(Debug, Default, PartialEq)]
struct Count(BTreeMap<String, usize>);

impl Summary<String> for Count {
    fn add(&mut self, data: &String) {
        *self.0.entry(data.clone()).or_default() += 1;
    }

    fn remove(&mut self, data: &String) {
        let count = self.0.get_mut(data).unwrap();
        *count -= 1;
        if *count == 0 {
            self.0.remove(data);
        }
    }
}

#[tokio::test]
async fn a_summary_follows_every_change_of_the_entries() {
    let storage = MemoryStorage::default();
    let log = Log::<String, Count>::new("create", 1);
    let is = |expected: &[(&str, usize)]| {
        let expected = expected
            .iter()
            .map(|(text, count)| ((*text).to_owned(), *count));
        let expected = Count(expected.collect());
        log.inspect(|count, entries| {
            assert_eq!(*count, expected);
            assert_eq!(entries.len(), count.0.values().sum::<usize>());
        });
    };
    for (id, data) in [("n1", "a"), ("n2", "a"), ("n3", "b")] {
        log.put(&storage, id, data.to_owned(), at(1)).await.unwrap();
    }
    is(&[("a", 2), ("b", 1)]);
    let overwritten = log.overwrite(&storage, "n2", "c".to_owned(), at(1));
    overwritten.await.unwrap();
    is(&[("a", 1), ("b", 1), ("c", 1)]);
    let amended = log.amend(&storage, "n2", |data| data.push('!'));
    amended.await.unwrap();
    is(&[("a", 1), ("b", 1), ("c!", 1)]);
    log.put(&ReadOnly, "n4", "d".to_owned(), at(1))
        .await
        .unwrap_err();
    is(&[("a", 1), ("b", 1), ("c!", 1)]);
    log.delete(&storage, "n1").await.unwrap();
    log.overwritten("n2");
    is(&[("b", 1)]);
    log.forget(|id| id != "n3");
    is(&[]);
    for _ in 0..2 {
        load(&storage, &[&log]).await.unwrap();
        is(&[("b", 1), ("c!", 1)]);
    }
}
