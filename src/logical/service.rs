//! The gRPC services that a Vault plugin offers in addition to go-plugin's own: the backend, its
//! version, and the announcement that one process can serve many mounts.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;
use tonic::{Response, Status};

use super::instances::{Instances, MultiplexId};
use super::pb::backend as pb;
use super::pb::backend::backend_server::BackendServer;
use super::pb::logical::VersionReply;
use super::pb::logical::plugin_version_server::{PluginVersion, PluginVersionServer};
use super::pb::multiplexing::plugin_multiplexing_server::{
    PluginMultiplexing, PluginMultiplexingServer,
};
use super::pb::multiplexing::{MultiplexingSupportRequest, MultiplexingSupportResponse};
use super::remote::{RemoteEvents, RemoteStorage, RemoteSystemView};
use super::{
    Backend, Error, Existence, Factory, LARGEST_MESSAGE, LeasedSecret, Mount, Operation, Request,
    Secret, convert,
};
use crate::goplugin::Broker;

/// All mounts of this process.
#[derive(Clone)]
pub struct Plugin {
    factory: Factory,
    broker: Broker,
    instances: Instances,
    version: &'static str,
}

impl Plugin {
    /// A plugin that serves instances created by `factory` and reports `version`: `v` and a semantic
    /// version, as the server's catalog requires.
    pub fn new(factory: Factory, version: &'static str, broker: Broker) -> Self {
        Self {
            factory,
            broker,
            instances: Instances::default(),
            version,
        }
    }

    /// Adds the services to a server.
    pub fn register(&self, routes: &mut RoutesBuilder) {
        let backend = BackendServer::new(self.clone())
            .max_decoding_message_size(LARGEST_MESSAGE)
            .max_encoding_message_size(LARGEST_MESSAGE);
        routes
            .add_service(backend)
            .add_service(PluginVersionServer::new(self.clone()))
            .add_service(PluginMultiplexingServer::new(self.clone()));
    }
}

#[tonic::async_trait]
impl pb::backend_server::Backend for Plugin {
    async fn setup(
        &self,
        request: tonic::Request<pb::SetupArgs>,
    ) -> Result<Response<pb::SetupReply>, Status> {
        let id = MultiplexId::of(request.metadata())?;
        let args = request.into_inner();
        let channel = match self.broker.dial(args.broker_id).await {
            Ok(channel) => channel,
            Err(reason) => {
                let err = format!("cannot reach the host's storage: {reason}");
                return Ok(Response::new(pb::SetupReply { err }));
            }
        };
        let backend = (self.factory)(Mount {
            storage: Arc::new(RemoteStorage::new(channel.clone())),
            system: Arc::new(RemoteSystemView::new(channel.clone())),
            events: Arc::new(RemoteEvents::new(channel)),
            backend_uuid: args.backend_uuid,
        });
        if let Some(replaced) = self.instances.insert(id, backend) {
            replaced.cleanup().await;
        }
        Ok(Response::new(pb::SetupReply::default()))
    }

    async fn initialize(
        &self,
        request: tonic::Request<pb::InitializeArgs>,
    ) -> Result<Response<pb::InitializeReply>, Status> {
        let backend = self.instances.of(request.metadata())?;
        let err = match backend.initialize().await {
            // A standby that cannot write has nothing to prepare.
            Ok(()) | Err(Error::ReadOnly) => None,
            Err(error) => Some(convert::error(&error)),
        };
        Ok(Response::new(pb::InitializeReply { err }))
    }

    async fn handle_request(
        &self,
        request: tonic::Request<pb::HandleRequestArgs>,
    ) -> Result<Response<pb::HandleRequestReply>, Status> {
        let backend = self.instances.of(request.metadata())?;
        let caller_gone = CancellationToken::new();
        let _abandoned = caller_gone.clone().drop_guard();
        let outcome = match convert::request(request.into_inner().request, caller_gone) {
            Ok(request) => run_to_completion(backend, request).await,
            Err(reason) => Err(reason.into()),
        };
        Ok(Response::new(convert::reply(outcome)))
    }

    async fn handle_existence_check(
        &self,
        request: tonic::Request<pb::HandleExistenceCheckArgs>,
    ) -> Result<Response<pb::HandleExistenceCheckReply>, Status> {
        let backend = self.instances.of(request.metadata())?;
        let outcome = match convert::request_line(request.into_inner().request) {
            Ok(request) => backend.existence_check(request).await,
            Err(reason) => Err(reason.into()),
        };
        Ok(Response::new(match outcome {
            Ok(existence) => pb::HandleExistenceCheckReply {
                check_found: existence != Existence::Unknown,
                exists: existence == Existence::Exists,
                err: None,
            },
            Err(error) => pb::HandleExistenceCheckReply {
                err: Some(convert::error(&error)),
                ..pb::HandleExistenceCheckReply::default()
            },
        }))
    }

    async fn special_paths(
        &self,
        request: tonic::Request<pb::Empty>,
    ) -> Result<Response<pb::SpecialPathsReply>, Status> {
        let paths = self.instances.of(request.metadata())?.special_paths();
        Ok(Response::new(pb::SpecialPathsReply {
            paths: Some(convert::special_paths(paths)),
        }))
    }

    async fn r#type(
        &self,
        _: tonic::Request<pb::Empty>,
    ) -> Result<Response<pb::TypeReply>, Status> {
        Ok(Response::new(pb::TypeReply {
            r#type: SECRETS_ENGINE,
        }))
    }

    async fn invalidate_key(
        &self,
        request: tonic::Request<pb::InvalidateKeyArgs>,
    ) -> Result<Response<pb::Empty>, Status> {
        let backend = self.instances.of(request.metadata())?;
        backend.invalidate(&request.into_inner().key).await;
        Ok(Response::new(pb::Empty {}))
    }

    async fn cleanup(
        &self,
        request: tonic::Request<pb::Empty>,
    ) -> Result<Response<pb::Empty>, Status> {
        if let Some(backend) = self.instances.remove(request.metadata())? {
            backend.cleanup().await;
        }
        Ok(Response::new(pb::Empty {}))
    }
}

#[tonic::async_trait]
impl PluginVersion for Plugin {
    async fn version(
        &self,
        _: tonic::Request<super::pb::logical::Empty>,
    ) -> Result<Response<VersionReply>, Status> {
        Ok(Response::new(VersionReply {
            plugin_version: self.version.to_owned(),
        }))
    }
}

#[tonic::async_trait]
impl PluginMultiplexing for Plugin {
    async fn multiplexing_support(
        &self,
        _: tonic::Request<MultiplexingSupportRequest>,
    ) -> Result<Response<MultiplexingSupportResponse>, Status> {
        Ok(Response::new(MultiplexingSupportResponse {
            supported: true,
        }))
    }
}

/// Handles a request, even if the call is dropped. tonic drops a call's future when the caller hangs up or a
/// deadline passes. A handler that stops halfway can lose keys, so it runs to completion, as Go handlers do.
/// If the caller is gone, a new lease in the answer is revoked: the host has never heard of it. A renewed lease
/// is the host's, whether or not it hears of the renewal. A panic fails only this request and leaves the other
/// mounts alone.
///
/// A handler that waits for something goes on in its own task. Most reads do not wait, and need no task.
async fn run_to_completion(backend: Arc<dyn Backend>, request: Request) -> Outcome {
    let is_renewal = request.operation == Operation::Renew;
    let mut handling = Box::pin(async move {
        let outcome = backend.handle_request(request).await;
        (backend, outcome)
    });
    let first_poll = poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(cx)));
        Poll::Ready(polled)
    });
    match first_poll.await {
        Ok(Poll::Ready((_, outcome))) => return outcome,
        Ok(Poll::Pending) => {}
        Err(_) => return panicked(),
    }
    let (answer, answered) = oneshot::channel();
    tokio::spawn(async move {
        let (backend, outcome) = handling.await;
        if let Err(Ok(Some(undelivered))) = answer.send(outcome)
            && !is_renewal
        {
            revoke_undelivered(&*backend, undelivered).await;
        }
    });
    answered.await.unwrap_or_else(|_| panicked())
}

/// The panic itself is in the log.
fn panicked() -> Outcome {
    Err(Error::internal(
        "the plugin had an internal error; see the server's log",
    ))
}

async fn revoke_undelivered(backend: &dyn Backend, undelivered: super::Response) {
    let Some(secret) = undelivered.secret.map(Secret::unfolded) else {
        return;
    };
    let mut revocation = Request::new(Operation::Revoke, "");
    revocation.secret = Some(LeasedSecret {
        internal_data: secret.internal_data,
        issued_at: 0,
        ttl: secret.lease.ttl,
        increment: Duration::ZERO,
    });
    if let Err(reason) = backend.handle_request(revocation).await {
        // The engine keeps retrying: it treats this as a lease that the host never registered.
        tracing::warn!(%reason, "a lease whose caller is gone cannot be revoked yet");
    }
}

type Outcome = Result<Option<super::Response>, Error>;

/// `logical.TypeLogical` of Vault's SDK.
const SECRETS_ENGINE: u32 = 1;

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use futures::FutureExt as _;
    use tokio::sync::Notify;

    use super::*;
    use crate::logical::SpecialPaths;

    /// Behaves as the path says.
    #[derive(Default)]
    struct Obedient {
        go_on: Notify,
        done: Notify,
    }

    #[async_trait]
    impl Backend for Obedient {
        fn special_paths(&self) -> SpecialPaths {
            SpecialPaths::default()
        }

        async fn initialize(&self) -> Result<(), Error> {
            Ok(())
        }

        async fn handle_request(&self, request: Request) -> Outcome {
            if request.path.contains("wait") {
                self.go_on.notified().await;
            }
            if request.path.contains("panic") {
                panic!("as ordered");
            }
            self.done.notify_one();
            Ok(None)
        }

        async fn existence_check(&self, _: Request) -> Result<Existence, Error> {
            Ok(Existence::Unknown)
        }

        async fn invalidate(&self, _: &str) {}

        async fn cleanup(&self) {}
    }

    fn call(backend: &Arc<Obedient>, path: &str) -> impl Future<Output = Outcome> + use<> {
        let request = Request::new(Operation::Read, path);
        run_to_completion(Arc::clone(backend) as _, request)
    }

    /// Without a runtime, no task can be spawned.
    #[test]
    fn a_handler_that_does_not_wait_needs_no_task() {
        let backend = Arc::default();
        assert_eq!(call(&backend, "at once").now_or_never(), Some(Ok(None)));
        let failed = call(&backend, "panic").now_or_never().unwrap();
        assert!(matches!(failed, Err(Error::Internal(_))), "{failed:?}");
    }

    #[tokio::test]
    async fn a_handler_that_waits_goes_on_when_its_caller_is_gone() {
        let backend = Arc::default();
        assert_eq!(call(&backend, "wait").now_or_never(), None);
        backend.go_on.notify_one();
        backend.done.notified().await;
    }

    #[tokio::test]
    async fn a_handler_that_panics_after_it_has_waited_fails_its_own_request() {
        let backend = Arc::default();
        let panicking = tokio::spawn(call(&backend, "wait, then panic"));
        backend.go_on.notify_one();
        let failed = panicking.await.unwrap();
        assert!(matches!(failed, Err(Error::Internal(_))), "{failed:?}");
        backend.go_on.notify_one();
        assert_eq!(call(&backend, "wait").await, Ok(None));
    }
}
