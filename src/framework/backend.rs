//! An engine built from its blueprint: routing, parsing, help, leases, and the server's own calls.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;

use super::path::{Call, Endpoint, Outcome, Path};
use super::pattern::Captures;
use super::{Blueprint, Fields, InvalidField, help, openapi, secret};
use crate::logical::{
    self, Data, Error, Existence, Operation, Request, Response, SpecialPaths, SystemView,
};

/// An engine on one mount, as the host calls it.
pub struct Backend<E> {
    blueprint: Blueprint<E>,
    engine: Arc<E>,
    system: Arc<dyn SystemView>,
}

impl<E: Send + Sync + 'static> Backend<E> {
    /// `engine`, with the paths of `blueprint`.
    pub fn new(blueprint: Blueprint<E>, engine: Arc<E>, system: Arc<dyn SystemView>) -> Self {
        Self {
            blueprint,
            engine,
            system,
        }
    }

    fn route<'a>(&self, path: &'a str) -> Option<(&Path<E>, Captures<'a>)> {
        self.blueprint.paths.iter().find_map(|candidate| {
            let captured = candidate.pattern.matches(path)?;
            Some((candidate, captured))
        })
    }

    /// The server adds a slash to the path of every list. Any other operation on a path with a slash is rejected:
    /// the server would not recognize it as the path that needs `sudo`, or that a policy denies.
    fn route_list<'a>(&self, request: &'a Request) -> Option<(&Path<E>, Captures<'a>)> {
        let path = request.path.strip_suffix('/')?;
        let lists = |path: &Path<E>| path.endpoints.contains_key(&Operation::List);
        let (path, captured) = self.route(path).filter(|(path, _)| lists(path))?;
        (request.operation == Operation::List).then_some((path, captured))
    }

    async fn call(&self, mut request: Request) -> Outcome {
        let routed = self.route(&request.path);
        let routed = routed.or_else(|| self.route_list(&request));
        let (path, captured) = routed.ok_or(Error::UnsupportedPath)?;
        let endpoint = path
            .endpoints
            .get(&request.operation)
            .ok_or(Error::UnsupportedOperation)?;
        let fields = parse(path, endpoint, &captured, &request)?;
        // The fields now hold any secret in the data, so no second copy is needed.
        request.data.clear();
        if endpoint.active_only && !self.system.may_write().await? {
            return Err(Error::ReadOnly);
        }
        let handler = Arc::clone(&endpoint.handler);
        handler(Arc::clone(&self.engine), Call { fields, request }).await
    }

    fn help(&self, request: &Request) -> Outcome {
        let (text, document) = if request.path.is_empty() {
            let all: Vec<&Path<E>> = self.blueprint.paths.iter().collect();
            let document = openapi::document(&self.blueprint, &all);
            (help::of_backend(&self.blueprint), document)
        } else {
            let asked = request.path.strip_suffix('/').unwrap_or(&request.path);
            let (path, _) = self.route(asked).ok_or(Error::UnsupportedPath)?;
            let document = openapi::document(&self.blueprint, &[path]);
            (help::of_path(path, &request.path), document)
        };
        let data = Data::from_iter([
            ("help".to_owned(), text.into()),
            ("see_also".to_owned(), serde_json::Value::Null),
            ("openapi".to_owned(), document),
        ]);
        Ok(Some(Response::with_data(data)))
    }

    fn lease(&self, request: Request) -> Result<BoxFuture<'static, Outcome>, Error> {
        let operation = request.operation;
        let (name, secret) = secret::of(request)?;
        let kind = self
            .blueprint
            .secrets
            .iter()
            .find(|kind| kind.name == name)
            .ok_or_else(|| Error::internal(format!("unknown secret type {name:?}")))?;
        let handler = match operation {
            Operation::Revoke => &kind.revoke,
            _ => kind.renew.as_ref().ok_or_else(|| {
                Error::invalid("this lease cannot be renewed; read again instead")
            })?,
        };
        Ok(handler(Arc::clone(&self.engine), secret))
    }
}

#[async_trait]
impl<E: Send + Sync + 'static> logical::Backend for Backend<E> {
    fn special_paths(&self) -> SpecialPaths {
        self.blueprint.special_paths.clone()
    }

    async fn initialize(&self) -> Result<(), Error> {
        self.blueprint.lifecycle.initialize(&self.engine).await
    }

    async fn handle_request(&self, request: Request) -> Outcome {
        match request.operation {
            Operation::Help => self.help(&request),
            Operation::Renew | Operation::Revoke => self.lease(request)?.await.map_err(plainly),
            Operation::Rollback => {
                self.blueprint.lifecycle.periodic(&self.engine).await?;
                Ok(None)
            }
            _ => self.call(request).await,
        }
    }

    async fn existence_check(&self, request: Request) -> Result<Existence, Error> {
        let Some((path, captured)) = self.route(&request.path) else {
            return Ok(Existence::Unknown);
        };
        let Some(check) = &path.exists else {
            return Ok(Existence::Unknown);
        };
        // Only the path is parsed: the body is checked later, when the caller's permissions are known.
        let fields = Fields::parse(&path.parameters, &captured, &Data::new(), false);
        let fields = fields.map_err(refusal)?;
        Ok(if check(Arc::clone(&self.engine), fields).await? {
            Existence::Exists
        } else {
            Existence::Absent
        })
    }

    async fn invalidate(&self, key: &str) {
        self.blueprint.lifecycle.invalidate(&self.engine, key).await;
    }

    async fn cleanup(&self) {
        self.blueprint.lifecycle.cleanup(&self.engine).await;
    }
}

/// Reads and lists ignore unknown query parameters, because proxies and clients add their own. All
/// other operations reject them.
fn parse<E>(
    path: &Path<E>,
    endpoint: &Endpoint<E>,
    captured: &[(&'static str, &str)],
    request: &Request,
) -> Result<Fields, Error> {
    let schema = path.parameters.iter().chain(&endpoint.fields);
    let strict = !matches!(request.operation, Operation::Read | Operation::List);
    Fields::parse(schema, captured, &request.data, strict).map_err(refusal)
}

/// If a renewal is refused, the server shows the user the whole structure of the refusal. If it fails,
/// the server shows only the text.
fn plainly(error: Error) -> Error {
    match error {
        Error::Invalid(text) => Error::status(400, text),
        other => other,
    }
}

fn refusal(reason: InvalidField) -> Error {
    Error::invalid(reason.to_string())
}

#[cfg(test)]
mod tests;
