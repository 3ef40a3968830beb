//! One path of an engine: its pattern, its operations and its help.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use schemars::JsonSchema;

use super::answer::{Answer, schema_of};
use super::{Field, Fields, Pattern};
use crate::logical::{Error, Operation, Request, Response};

/// The result of a handler.
pub type Outcome = Result<Option<Response>, Error>;

/// A routed and parsed request.
#[derive(Debug)]
pub struct Call {
    /// The fields, from the path and the body.
    pub fields: Fields,
    /// The original request, without its data.
    pub request: Request,
}

/// A path of an engine `E`.
pub struct Path<E> {
    pub(super) pattern: Pattern,
    pub(super) suffix: &'static str,
    pub(super) parameters: Vec<Field>,
    pub(super) endpoints: BTreeMap<Operation, Endpoint<E>>,
    pub(super) exists: Option<ExistenceCheck<E>>,
    pub(super) synopsis: &'static str,
    pub(super) description: &'static str,
}

impl<E: Send + Sync + 'static> Path<E> {
    /// A path with this pattern, such as `roles/:name`. `suffix` is the object of its operations, for
    /// their names in OpenAPI.
    pub fn new(pattern: &'static str, suffix: &'static str) -> Self {
        Self {
            pattern: Pattern::new(pattern),
            suffix,
            parameters: Vec::new(),
            endpoints: BTreeMap::new(),
            exists: None,
            synopsis: "",
            description: "",
        }
    }

    /// Documents a captured segment.
    pub fn parameter(mut self, name: &'static str, description: &'static str) -> Self {
        self.parameters.push(Field::name(name, description));
        self
    }

    /// Adds an operation.
    pub fn on(mut self, operation: Operation, endpoint: Endpoint<E>) -> Self {
        self.endpoints.insert(operation, endpoint);
        self
    }

    /// Handles both creates and updates. Needs [`exists`](Self::exists) to tell them apart.
    pub fn on_write(self, endpoint: Endpoint<E>) -> Self {
        self.on(Operation::Create, endpoint.clone())
            .on(Operation::Update, endpoint)
    }

    /// Tells the server whether a write creates an object. Policies distinguish creates from updates.
    pub fn exists<F, Fut>(mut self, check: F) -> Self
    where
        F: Fn(Arc<E>, Fields) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<bool, Error>> + Send + 'static,
    {
        self.exists = Some(Arc::new(move |engine, fields| {
            Box::pin(check(engine, fields))
        }));
        self
    }

    /// The text of `vault path-help`: a synopsis and a description.
    pub fn help(mut self, synopsis: &'static str, description: &'static str) -> Self {
        self.synopsis = synopsis;
        self.description = description;
        self
    }
}

/// An operation on a path.
pub struct Endpoint<E> {
    pub(super) handler: Handler<E>,
    pub(super) summary: &'static str,
    pub(super) fields: Vec<Field>,
    pub(super) answer: Answer,
    pub(super) verb: Option<&'static str>,
    pub(super) active_only: bool,
}

impl<E: Send + Sync + 'static> Endpoint<E> {
    /// An operation that `handler` carries out; `summary` is a short sentence for OpenAPI.
    pub fn new<F, Fut>(summary: &'static str, handler: F) -> Self
    where
        F: Fn(Arc<E>, Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        Self {
            handler: Arc::new(move |engine, call| Box::pin(handler(engine, call))),
            summary,
            fields: Vec::new(),
            answer: Answer::default(),
            verb: None,
            active_only: false,
        }
    }

    /// The fields it accepts in addition to those in the path.
    pub fn takes(mut self, fields: impl IntoIterator<Item = Field>) -> Self {
        self.fields.extend(fields);
        self
    }

    /// What it answers: the fields of this structure. Each further call adds an alternative. An operation
    /// without this answers without fields, and may have warnings.
    pub fn answers<T: JsonSchema>(mut self) -> Self {
        match &mut self.answer {
            Answer::Fields(kinds) => kinds.push(schema_of::<T>),
            answer => *answer = Answer::Fields(vec![schema_of::<T>]),
        }
        self
    }

    /// It answers with text of this content type: see [`Response::raw`].
    pub fn answers_text(mut self, content_type: &'static str) -> Self {
        self.answer = Answer::Text(content_type);
        self
    }

    /// Its verb in OpenAPI, if that differs from the operation's own.
    pub fn verb(mut self, verb: &'static str) -> Self {
        self.verb = Some(verb);
        self
    }

    /// For an operation that writes, or acts on the outside world. A node that may not do so forwards
    /// the request to one that may, before anything has happened.
    pub fn active_only(mut self) -> Self {
        self.active_only = true;
        self
    }
}

impl<E> Clone for Endpoint<E> {
    fn clone(&self) -> Self {
        Self {
            handler: Arc::clone(&self.handler),
            summary: self.summary,
            fields: self.fields.clone(),
            answer: self.answer.clone(),
            verb: self.verb,
            active_only: self.active_only,
        }
    }
}

pub(super) type Handler<E> = Arc<dyn Fn(Arc<E>, Call) -> BoxFuture<'static, Outcome> + Send + Sync>;

pub(super) type ExistenceCheck<E> =
    Arc<dyn Fn(Arc<E>, Fields) -> BoxFuture<'static, Result<bool, Error>> + Send + Sync>;

#[cfg(test)]
mod tests {
    use super::*;

    async fn nothing(_: Arc<()>, _: Call) -> Outcome {
        Ok(None)
    }

    fn path() -> Path<()> {
        Path::new("notes/:name", "note").parameter("name", "Its name.")
    }

    #[test]
    fn a_write_is_a_create_and_an_update_with_the_same_fields() {
        let endpoint = Endpoint::new("Write it.", nothing)
            .takes([Field::text("text", "What it says.")])
            .verb("put")
            .active_only();
        let path = path().on_write(endpoint);
        for operation in [Operation::Create, Operation::Update] {
            let endpoint = &path.endpoints[&operation];
            assert_eq!(endpoint.fields[0].name, "text");
            assert_eq!(
                (endpoint.summary, endpoint.verb),
                ("Write it.", Some("put"))
            );
            assert!(endpoint.active_only);
        }
        assert_eq!(path.endpoints.len(), 2);
    }

    #[test]
    fn an_operation_is_free_to_any_node_and_without_fields_unless_it_says_otherwise() {
        let path = path().on(Operation::Read, Endpoint::new("Read it.", nothing));
        let endpoint = &path.endpoints[&Operation::Read];
        assert!(!endpoint.active_only && endpoint.fields.is_empty());
        assert!(path.exists.is_none());
    }
}
