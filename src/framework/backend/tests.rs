//! Tests of routing, parsing, leases and the server's own calls, on the engine of [`sample`].
//!
//! [`sample`]: crate::framework::sample

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::framework::sample::{Notes, blueprint, data};
use crate::logical::{
    Backend as _, FixedSystemView, LeasedSecret, ReplicationState, SystemViewError,
};

struct Mounted {
    backend: Backend<Notes>,
    notes: Arc<Notes>,
}

impl Mounted {
    fn on(system: impl SystemView + 'static) -> Self {
        let notes = Arc::<Notes>::default();
        let backend = Backend::new(blueprint(), Arc::clone(&notes), Arc::new(system));
        Self { backend, notes }
    }

    fn new() -> Self {
        Self::on(FixedSystemView::default())
    }

    async fn ask(&self, operation: Operation, path: &str, fields: Value) -> Outcome {
        let request = Request::new(operation, path).with_data(data(fields));
        self.backend.handle_request(request).await
    }

    async fn end_lease(&self, operation: Operation, internal_data: Value) -> Outcome {
        let mut request = Request::new(operation, "notes/old");
        request.secret = Some(LeasedSecret {
            internal_data: data(internal_data),
            issued_at: 0,
            ttl: Duration::ZERO,
            increment: Duration::ZERO,
        });
        self.backend.handle_request(request).await
    }
}

fn standby() -> FixedSystemView {
    FixedSystemView {
        replication_state: ReplicationState::PERFORMANCE_STANDBY,
        ..FixedSystemView::default()
    }
}

/// A server that does not report this node's role.
struct Silent;

#[async_trait]
impl SystemView for Silent {
    async fn max_lease_ttl(&self) -> Result<Duration, SystemViewError> {
        Err(SystemViewError("silent".to_owned()))
    }
    async fn replication_state(&self) -> Result<ReplicationState, SystemViewError> {
        Err(SystemViewError("silent".to_owned()))
    }
    async fn local_mount(&self) -> Result<bool, SystemViewError> {
        Err(SystemViewError("silent".to_owned()))
    }

    async fn entity_name(&self, _: &str) -> Result<Option<String>, SystemViewError> {
        Ok(None)
    }
}

#[tokio::test]
async fn the_first_path_that_matches_is_taken() {
    let mounted = Mounted::new();
    for path in ["notes/pinned", "notes/pinne"] {
        mounted.ask(Operation::Read, path, json!({})).await.unwrap();
    }
    assert_eq!(
        mounted.notes.done(),
        ["reads the pinned note", "Read pinne"]
    );
    // An unsupported operation is not accepted either.
    let write = mounted.ask(Operation::Update, "notes/pinned", json!({}));
    assert_eq!(write.await, Err(Error::UnsupportedOperation));
}

#[tokio::test]
async fn a_list_comes_with_a_trailing_slash_or_without() {
    let mounted = Mounted::new();
    for path in ["notes/", "notes"] {
        let listed = mounted.ask(Operation::List, path, json!({})).await;
        assert!(listed.is_ok(), "{path}");
    }
    let below = mounted.ask(Operation::List, "notes/old/", json!({}));
    assert_eq!(below.await, Err(Error::UnsupportedPath));
}

#[tokio::test]
async fn what_the_table_does_not_have_is_unsupported() {
    let mounted = Mounted::new();
    for path in ["", "note", "notes/a/b", "notes/-"] {
        let read = mounted.ask(Operation::Read, path, json!({})).await;
        assert_eq!(read, Err(Error::UnsupportedPath), "{path:?}");
    }
    for (operation, path) in [
        (Operation::Read, "notes"),
        (Operation::Create, "wipe"),
        (Operation::List, "notes/pinned"),
    ] {
        let asked = mounted.ask(operation, path, json!({})).await;
        assert_eq!(asked, Err(Error::UnsupportedOperation), "{path}");
    }
    assert!(mounted.notes.done().is_empty());
}

#[tokio::test]
async fn a_handler_learns_which_write_it_is_and_gets_the_fields() {
    let mounted = Mounted::new();
    let fields = json!({ "text": "hello", "priority": "5" });
    for operation in [Operation::Create, Operation::Update, Operation::Patch] {
        let written = mounted.ask(operation, "notes/a", fields.clone()).await;
        let answer = written.unwrap().unwrap().data;
        assert_eq!(answer, data(json!({ "name": "a", "priority": 5 })));
    }
    assert_eq!(mounted.notes.done(), ["Create a", "Update a", "Patch a"]);
}

#[tokio::test]
async fn unknown_fields_are_refused_by_what_changes_something_and_passed_over_by_the_rest() {
    let mounted = Mounted::new();
    let misspelt = || json!({ "txet": "hello" });
    for operation in [
        Operation::Create,
        Operation::Update,
        Operation::Patch,
        Operation::Delete,
    ] {
        let refusal = mounted.ask(operation, "notes/a", misspelt()).await;
        assert!(
            matches!(&refusal, Err(Error::Invalid(text)) if text.contains("txet")),
            "{operation:?}: {refusal:?}"
        );
    }
    assert!(mounted.notes.done().is_empty());
    for (operation, path) in [(Operation::Read, "notes/a"), (Operation::List, "notes/")] {
        assert!(mounted.ask(operation, path, misspelt()).await.is_ok());
    }
}

#[tokio::test]
async fn a_field_belongs_to_the_operations_that_take_it() {
    let mounted = Mounted::new();
    let delete = mounted.ask(Operation::Delete, "notes/a", json!({ "force": true }));
    assert!(delete.await.is_ok());
    let write = mounted.ask(Operation::Update, "notes/a", json!({ "force": true }));
    assert!(matches!(write.await, Err(Error::Invalid(_))));
}

#[tokio::test]
async fn a_node_that_may_not_write_refuses_before_the_handler_runs() {
    let mounted = Mounted::on(standby());
    for operation in [Operation::Create, Operation::Patch, Operation::Delete] {
        let refused = mounted.ask(operation, "notes/a", json!({})).await;
        assert_eq!(refused, Err(Error::ReadOnly), "{operation:?}");
    }
    assert!(mounted.notes.done().is_empty());
    assert!(
        mounted
            .ask(Operation::Read, "notes/a", json!({}))
            .await
            .is_ok()
    );
    // A mistake is reported at once instead of being forwarded through the cluster.
    let mistaken = mounted.ask(Operation::Update, "notes/a", json!({ "priority": "high" }));
    assert!(matches!(mistaken.await, Err(Error::Invalid(_))));
}

#[tokio::test]
async fn a_node_that_cannot_be_asked_what_it_is_takes_no_writes() {
    let mounted = Mounted::on(Silent);
    let write = mounted.ask(Operation::Update, "notes/a", json!({}));
    assert!(matches!(write.await, Err(Error::Internal(_))));
    assert!(mounted.notes.done().is_empty());
    assert!(
        mounted
            .ask(Operation::Read, "notes/a", json!({}))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn existence_is_judged_by_the_path_alone() {
    let mounted = Mounted::new();
    let table = [
        ("notes/old", Existence::Exists),
        ("notes/new", Existence::Absent),
        ("notes/pinned", Existence::Unknown),
        ("notes", Existence::Unknown),
        ("nothing", Existence::Unknown),
    ];
    for (path, expected) in table {
        let request = Request::new(Operation::Create, path);
        let request = request.with_data(data(json!({ "priority": "high", "txet": 1 })));
        let found = mounted.backend.existence_check(request).await;
        assert_eq!(found, Ok(expected), "{path}");
    }
    assert_eq!(mounted.notes.done(), ["looks for old", "looks for new"]);
}

#[tokio::test]
async fn an_existence_check_that_fails_says_neither() {
    let request = Request::new(Operation::Create, "notes/torn");
    let found = Mounted::new().backend.existence_check(request).await;
    assert_eq!(found, Err(Error::internal("it is torn")));
}

#[tokio::test]
async fn a_lease_goes_to_the_kind_that_it_names() {
    let mounted = Mounted::new();
    let lent = json!({ "secret_type": "lent", "note": 1 });
    let given = json!({ "secret_type": "given", "note": 2 });
    let renewed = mounted.end_lease(Operation::Renew, lent.clone()).await;
    assert!(renewed.unwrap().is_some());
    assert_eq!(mounted.end_lease(Operation::Revoke, lent).await, Ok(None));
    assert_eq!(
        mounted.end_lease(Operation::Revoke, given.clone()).await,
        Ok(None)
    );
    assert_eq!(mounted.notes.done(), ["renews 1", "revokes 1", "revokes 2"]);
    let refusal = mounted.end_lease(Operation::Renew, given).await;
    assert!(matches!(refusal, Err(Error::Invalid(_))), "{refusal:?}");
}

#[tokio::test]
async fn a_lease_of_no_kind_that_there_is_is_not_taken_for_revoked() {
    let mounted = Mounted::new();
    for internal_data in [
        json!({ "secret_type": "stolen" }),
        json!({ "secret_type": 1 }),
        json!({}),
    ] {
        let ended = mounted.end_lease(Operation::Revoke, internal_data).await;
        assert!(matches!(ended, Err(Error::Internal(_))), "{ended:?}");
    }
    let none = mounted.ask(Operation::Revoke, "notes/old", json!({})).await;
    assert!(matches!(none, Err(Error::Internal(_))), "{none:?}");
    assert!(mounted.notes.done().is_empty());
}

#[tokio::test]
async fn the_servers_own_calls_reach_the_engine() {
    let Mounted { backend, notes } = Mounted::new();
    backend.initialize().await.unwrap();
    let rollback = Request::new(Operation::Rollback, "");
    assert_eq!(backend.handle_request(rollback).await, Ok(None));
    backend.invalidate("notes/a").await;
    backend.cleanup().await;
    assert_eq!(
        notes.done(),
        ["begins", "looks after things", "forgets notes/a", "ends"]
    );
    assert_eq!(backend.special_paths().seal_wrap_storage, ["notes/"]);
}

#[tokio::test]
async fn help_is_about_the_engine_or_about_one_path() {
    let mounted = Mounted::new();
    // The server sends this field for its own document.
    let fields = json!({ "requestResponsePrefix": "notes" });
    for (path, count) in [("", 4), ("notes/old", 1), ("notes/", 1)] {
        let page = mounted.ask(Operation::Help, path, fields.clone()).await;
        let page = page.unwrap().unwrap().data;
        assert!(page["help"].is_string());
        assert_eq!(page["see_also"], Value::Null);
        let paths = page["openapi"]["paths"].as_object().unwrap();
        assert_eq!(paths.len(), count, "{path:?}");
    }
    let unknown = mounted.ask(Operation::Help, "nothing", json!({})).await;
    assert_eq!(unknown, Err(Error::UnsupportedPath));
}
