//! A small engine that stores notes, for the tests of this floor. Other builds do not contain it.
//!
//! It has one path of each kind that this floor supports, and records which of its handlers ran.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Blueprint, Call, Endpoint, Field, Fields, Lifecycle, Outcome, Path, SecretType};
use crate::logical::{Data, Error, LeasedSecret, Operation, Response, SpecialPaths};

/// The engine: a record of what it did, in order.
#[derive(Default)]
pub(super) struct Notes(Mutex<Vec<String>>);

impl Notes {
    /// What it has done so far.
    pub(super) fn done(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn does(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }
}

/// The engine's blueprint.
pub(super) fn blueprint() -> Blueprint<Notes> {
    let pinned = Path::new("notes/pinned", "pinned-note")
        .on(
            Operation::Read,
            Endpoint::new("Read the pinned note.", pinned).answers_text("text/plain"),
        )
        .help("The pinned note.", "It is always there.");
    let list = Path::new("notes", "notes")
        .on(
            Operation::List,
            Endpoint::new("List the notes.", handle).takes([Field::text(
                "starting",
                "How they start.",
            )
            .query()]),
        )
        .help("List the notes.", "All of them.");
    let wipe = Path::new("wipe", "everything")
        .on(
            Operation::Update,
            Endpoint::new("Delete every note.", handle).verb("wipe"),
        )
        .help("Delete every note.", "There is no way back.");
    Blueprint {
        title: "Notes",
        description: "The notes engine keeps notes.",
        version: "1.2.3",
        prefix: "notes",
        paths: vec![pinned, note(), list, wipe],
        events: &[],
        secrets: vec![lent(), given()],
        special_paths: SpecialPaths {
            seal_wrap_storage: vec!["notes/".to_owned()],
            ..SpecialPaths::default()
        },
        lifecycle: Arc::new(Life),
    }
}

fn note() -> Path<Notes> {
    let fields = || {
        [
            Field::text("text", "What it says.\nOne line.").required(),
            Field::integer("priority", "How urgent it is.").default("3"),
            Field::text("colour", "Its colour.")
                .one_of(&["red", "blue"])
                .nullable(),
            Field::secret("pin", "What opens it."),
            Field::duration("kept_for", "How long it is kept."),
            Field::switch("shared", "Whether others see it."),
            Field::number("weight", "Its weight."),
        ]
    };
    Path::new("notes/:name", "note")
        .parameter("name", "The note's name.")
        .on(
            Operation::Read,
            Endpoint::new("Read a note.", handle).answers::<NoteView>(),
        )
        .on_write(
            Endpoint::new("Write a note.", handle)
                .takes(fields())
                .active_only(),
        )
        .on(
            Operation::Patch,
            Endpoint::new("Change a note.", handle)
                .takes(fields())
                .active_only(),
        )
        .on(
            Operation::Delete,
            Endpoint::new("Delete a note.", handle)
                .takes([Field::switch("force", "Although it is shared.").query()])
                .active_only(),
        )
        .exists(|notes: Arc<Notes>, fields: Fields| async move {
            let name = fields.text("name").unwrap_or_default().to_owned();
            notes.does(format!("looks for {name}"));
            match name.as_str() {
                "torn" => Err(Error::internal("it is torn")),
                name => Ok(name == "old"),
            }
        })
        .help("A note.", "Notes are kept until they are deleted.")
}

async fn handle(notes: Arc<Notes>, call: Call) -> Outcome {
    let name = call.fields.text("name").unwrap_or_default().to_owned();
    let operation = call.request.operation;
    notes.does(format!("{operation:?} {name}"));
    let priority = call.fields.integer("priority");
    Ok(Some(Response::showing(&NoteView { name, priority })?))
}

#[derive(Serialize, JsonSchema)]
struct NoteView {
    name: String,
    /// How urgent it is.
    priority: Option<i64>,
}

async fn pinned(notes: Arc<Notes>, _: Call) -> Outcome {
    notes.does("reads the pinned note".to_owned());
    Ok(None)
}

/// A renewable lease.
fn lent() -> SecretType<Notes> {
    SecretType::new("lent", end).renewed_by(|notes: Arc<Notes>, secret: LeasedSecret| async move {
        notes.does(format!("renews {}", secret.internal_data["note"]));
        Ok(Some(Response::default()))
    })
}

/// A lease that cannot be renewed.
fn given() -> SecretType<Notes> {
    SecretType::new("given", end)
}

async fn end(notes: Arc<Notes>, secret: LeasedSecret) -> Outcome {
    notes.does(format!("revokes {}", secret.internal_data["note"]));
    Ok(None)
}

struct Life;

#[async_trait]
impl Lifecycle<Notes> for Life {
    async fn initialize(&self, notes: &Arc<Notes>) -> Result<(), Error> {
        notes.does("begins".to_owned());
        Ok(())
    }

    async fn periodic(&self, notes: &Arc<Notes>) -> Result<(), Error> {
        notes.does("looks after things".to_owned());
        Ok(())
    }

    async fn invalidate(&self, notes: &Arc<Notes>, key: &str) {
        notes.does(format!("forgets {key}"));
    }

    async fn cleanup(&self, notes: &Arc<Notes>) {
        notes.does("ends".to_owned());
    }
}

/// Fields in the form of a request's data.
pub(super) fn data(value: serde_json::Value) -> Data {
    value.as_object().cloned().unwrap()
}
