//! A small Vault server: mounts the built plugin and calls its backend service.
//!
//! It builds on the go-plugin host next to it and adds Vault's behaviour: which services it offers to
//! which mount, which id it puts on a call, and how it reads a reply.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tower::ServiceExt as _;
use vault_plugin_secrets_openrouter::logical::pb::backend as pb;
use vault_plugin_secrets_openrouter::logical::pb::backend::backend_client::BackendClient;
use vault_plugin_secrets_openrouter::logical::pb::logical as logical_pb;
use vault_plugin_secrets_openrouter::logical::pb::logical::plugin_version_client::PluginVersionClient;

use super::host::{Host, Offer};
use super::process::PluginProcess;
use super::relay::Relay;
use super::vault_mount::MountServer;

/// A server with the built plugin, which is not mounted yet.
pub(crate) struct Vault {
    pub(crate) plugin: PluginProcess,
    pub(crate) host: Host,
}

impl Vault {
    /// Starts the plugin.
    pub(crate) async fn start() -> Self {
        let (plugin, host) = Host::start().await;
        Self { plugin, host }
    }

    /// Mounts the plugin: setup, then initialisation.
    pub(crate) async fn mount(&self) -> Mount {
        self.mount_on(MountServer::default()).await
    }

    /// The same on a server with this behaviour.
    pub(crate) async fn mount_on(&self, server: MountServer) -> Mount {
        let services = self.offer(&server);
        self.announce(&services).await;
        let caller = self.caller(&[&format!("mount{}", services.id)]);
        assert_eq!(caller.setup(services.id).await.unwrap().err, "");
        let initialized = caller.initialize().await.unwrap();
        assert_eq!(initialized.err, None);
        Mount {
            caller,
            server,
            services,
        }
    }

    /// A caller that puts these ids on its calls.
    pub(crate) fn caller(&self, ids: &[&str]) -> Caller {
        Caller {
            channel: self.host.channel(),
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        }
    }

    /// Offers a mount's services without announcing them to the plugin.
    pub(crate) fn offer(&self, server: &MountServer) -> MountServices {
        let id = self.host.next_id();
        let offer = self.host.listen(id, server.services());
        let relay = Relay::to(offer.path());
        MountServices { id, relay, offer }
    }

    /// Announces a mount's services to the plugin.
    pub(crate) async fn announce(&self, services: &MountServices) {
        let path = services.relay.path();
        self.host.announce_at("unix", services.id, &path).await;
    }
}

/// One mount of the plugin.
pub(crate) struct Mount {
    pub(crate) caller: Caller,
    pub(crate) server: MountServer,
    pub(crate) services: MountServices,
}

impl Mount {
    /// Makes a request with the fields in `data`; `Value::Null` for none.
    pub(crate) async fn request(&self, operation: &str, path: &str, data: Value) -> Reply {
        let request = request(operation, path, &data.to_string());
        Reply(self.caller.handle(request).await.unwrap())
    }
}

/// The listener of one mount's services.
pub(crate) struct MountServices {
    /// The number for the plugin to dial.
    pub(crate) id: u32,
    relay: Relay,
    offer: Offer,
}

impl MountServices {
    /// How many connections the plugin has to them.
    pub(crate) fn connections(&self) -> usize {
        self.relay.connections()
    }

    /// Withdraws the services, as a server does after cleanup. Returns when every connection is closed;
    /// calls in flight are awaited.
    pub(crate) async fn withdraw(self) {
        let withdrawn = timeout(PATIENCE, self.offer.withdraw()).await;
        withdrawn.expect("the plugin holds the server up");
    }

    /// Waits until the plugin has closed its connections.
    pub(crate) async fn closed(&self) {
        let closed = timeout(PATIENCE, self.relay.closed()).await;
        closed.expect("a connection stays open");
    }
}

/// Calls the plugin's services with some ids on every call; Vault always sends exactly one.
#[derive(Clone)]
pub(crate) struct Caller {
    channel: Channel,
    ids: Vec<String>,
}

impl Caller {
    /// Sets up an instance as at registration: no configuration, no uuid.
    pub(crate) async fn setup(&self, broker_id: u32) -> Result<pb::SetupReply, Status> {
        let args = pb::SetupArgs {
            broker_id,
            ..pb::SetupArgs::default()
        };
        let reply = self.client().setup(self.with_ids(args)).await;
        reply.map(tonic::Response::into_inner)
    }

    pub(crate) async fn initialize(&self) -> Result<pb::InitializeReply, Status> {
        let args = self.with_ids(pb::InitializeArgs {});
        let reply = self.client().initialize(args).await;
        reply.map(tonic::Response::into_inner)
    }

    pub(crate) async fn handle(
        &self,
        request: impl Into<Option<pb::Request>>,
    ) -> Result<pb::HandleRequestReply, Status> {
        self.handle_within(None, request).await
    }

    /// The same with a deadline that is sent to the plugin.
    pub(crate) async fn handle_within(
        &self,
        deadline: Option<Duration>,
        request: impl Into<Option<pb::Request>>,
    ) -> Result<pb::HandleRequestReply, Status> {
        let mut args = self.with_ids(pb::HandleRequestArgs {
            request: request.into(),
            ..pb::HandleRequestArgs::default()
        });
        if let Some(deadline) = deadline {
            args.set_timeout(deadline);
        }
        let reply = self.client().handle_request(args).await;
        reply.map(tonic::Response::into_inner)
    }

    /// Announces a request message of this many bytes, and sends nothing more. Returns the error.
    pub(crate) async fn announce_a_message_of(&self, bytes: u32) -> Status {
        // One byte that marks the message as uncompressed, and four for its length.
        let mut prefix = vec![0];
        prefix.extend(bytes.to_be_bytes());
        let prefix = String::from_utf8(prefix).expect("bytes that are text, too");
        let mut request = http::Request::post("/pb.Backend/HandleRequest")
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for id in &self.ids {
            request = request.header("multiplex_id", id);
        }
        let request = request.body(Body::new(prefix)).unwrap();
        let reply = self.channel.clone().oneshot(request).await.unwrap();
        Status::from_header_map(reply.headers()).expect("a refusal")
    }

    pub(crate) async fn existence_check(
        &self,
        path: &str,
    ) -> Result<pb::HandleExistenceCheckReply, Status> {
        let args = self.with_ids(pb::HandleExistenceCheckArgs {
            request: Some(request("create", path, "null")),
            ..pb::HandleExistenceCheckArgs::default()
        });
        let reply = self.client().handle_existence_check(args).await;
        reply.map(tonic::Response::into_inner)
    }

    pub(crate) async fn special_paths(&self) -> Result<pb::Paths, Status> {
        let args = self.with_ids(pb::Empty {});
        let reply = self.client().special_paths(args).await;
        reply.map(|reply| reply.into_inner().paths.unwrap())
    }

    pub(crate) async fn backend_type(&self) -> Result<u32, Status> {
        let reply = self.client().r#type(self.with_ids(pb::Empty {})).await;
        reply.map(|reply| reply.into_inner().r#type)
    }

    pub(crate) async fn version(&self) -> Result<String, Status> {
        let mut client = PluginVersionClient::new(self.channel.clone());
        let reply = client.version(self.with_ids(logical_pb::Empty {})).await;
        reply.map(|reply| reply.into_inner().plugin_version)
    }

    pub(crate) async fn invalidate(&self, key: &str) -> Result<(), Status> {
        let key = key.to_owned();
        let args = self.with_ids(pb::InvalidateKeyArgs { key });
        self.client().invalidate_key(args).await.map(|_| ())
    }

    pub(crate) async fn cleanup(&self) -> Result<(), Status> {
        let reply = self.client().cleanup(self.with_ids(pb::Empty {})).await;
        reply.map(|_| ())
    }

    fn client(&self) -> BackendClient<Channel> {
        // As in go-plugin, whose clients accept messages of any size.
        BackendClient::new(self.channel.clone())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX)
    }

    fn with_ids<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        for id in &self.ids {
            let id = id.parse().unwrap();
            request.metadata_mut().append("multiplex_id", id);
        }
        request
    }
}

/// A request in Vault's form.
pub(crate) fn request(operation: &str, path: &str, data: &str) -> pb::Request {
    pb::Request {
        id: "b8a1f0d2".to_owned(),
        operation: operation.to_owned(),
        path: path.to_owned(),
        data: data.to_owned(),
        mount_point: "openrouter/".to_owned(),
        ..pb::Request::default()
    }
}

/// The plugin's reply, interpreted as Vault would.
#[derive(Debug)]
pub(crate) struct Reply(pub(crate) pb::HandleRequestReply);

impl Reply {
    /// The answer; panics if there is none.
    pub(crate) fn response(self) -> pb::Response {
        let Self(reply) = self;
        assert_eq!(reply.err, None);
        reply.response.expect("an answer")
    }

    /// The answer's fields.
    pub(crate) fn data(self) -> Value {
        let response = self.response();
        let data: Value = serde_json::from_str(&response.data).unwrap();
        assert_eq!(data.get("error"), None, "a refusal");
        data
    }

    /// Checks that the request succeeded; the answer, if any, is not an error.
    pub(crate) fn done(self) {
        assert_eq!(self.0.err, None);
        if self.0.response.is_some() {
            self.data();
        }
    }

    /// Checks that there is no answer.
    pub(crate) fn nothing(self) {
        assert_eq!(self.0, pb::HandleRequestReply::default());
    }

    /// The text of an error that blames the user: a response with only that text.
    pub(crate) fn refusal(self) -> String {
        let data: Value = serde_json::from_str(&self.response().data).unwrap();
        let fields = data.as_object().unwrap();
        assert!(fields.keys().eq(["error"]), "{fields:?}");
        fields["error"].as_str().unwrap().to_owned()
    }

    /// The error of a reply without an answer.
    pub(crate) fn fault(self) -> pb::ProtoError {
        assert_eq!(self.0.response, None);
        self.0.err.expect("an error")
    }
}

/// How long the plugin may take to close a connection. Only a broken plugin comes close.
const PATIENCE: Duration = Duration::from_secs(50);
