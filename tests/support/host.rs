//! A small go-plugin host: connects to a plugin, offers it services, and shuts it down.
//!
//! It does what Vault's host does, in the same order: one connection with the broker's and the stdio
//! stream, and a separate listener for each set of services.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tower::service_fn;
use vault_plugin_secrets_openrouter::goplugin::pb;
use vault_plugin_secrets_openrouter::goplugin::pb::ConnInfo;
use vault_plugin_secrets_openrouter::goplugin::pb::grpc_broker_client::GrpcBrokerClient;
use vault_plugin_secrets_openrouter::goplugin::pb::grpc_controller_client::GrpcControllerClient;
use vault_plugin_secrets_openrouter::goplugin::pb::grpc_stdio_client::GrpcStdioClient;

use super::identity::Identity;
use super::process::{HandshakeLine, PluginProcess};

/// The host's end of one plugin. Its connection closes when this is dropped.
pub(crate) struct Host {
    identity: Identity,
    plugin_certificate: Vec<u8>,
    channel: Channel,
    announce: mpsc::Sender<ConnInfo>,
    last_id: AtomicU32,
    sockets: TempDir,
    /// Ends when the plugin closes the broker's stream.
    pub(crate) broker_stream: AbortOnDropHandle<()>,
    /// Ends when the plugin closes the stdio stream; returns the number of messages on it.
    pub(crate) stdio_stream: AbortOnDropHandle<usize>,
}

impl Host {
    /// Starts the built plugin and connects to it.
    pub(crate) async fn start() -> (PluginProcess, Self) {
        let identity = Identity::new();
        let process = PluginProcess::start(&identity).await;
        let host = Self::connect(identity, &process.line).await;
        (process, host)
    }

    /// Connects to a plugin that printed `line`.
    pub(crate) async fn connect(identity: Identity, line: &HandshakeLine) -> Self {
        let channel = channel(line.socket.clone(), identity.client(&line.certificate)).await;
        let (announce, announced) = mpsc::channel(16);
        Self {
            broker_stream: AbortOnDropHandle::new(broker_stream(channel.clone(), announced)),
            stdio_stream: AbortOnDropHandle::new(stdio_stream(channel.clone())),
            plugin_certificate: line.certificate.clone(),
            last_id: AtomicU32::new(0),
            sockets: tempfile::tempdir().unwrap(),
            identity,
            channel,
            announce,
        }
    }

    /// The same host with a second connection to its plugin.
    pub(crate) async fn again(&self, line: &HandshakeLine) -> Self {
        Self::connect(self.identity.copy(), line).await
    }

    /// The connection to the plugin, for the clients of its services.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// TLS to the plugin, for another connection.
    pub(crate) fn client_tls(&self) -> ClientConfig {
        self.identity.client(&self.plugin_certificate)
    }

    /// TLS for a listener that expects the plugin.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor_as(&self.identity)
    }

    fn acceptor_as(&self, identity: &Identity) -> TlsAcceptor {
        TlsAcceptor::from(Arc::new(identity.server(&self.plugin_certificate)))
    }

    /// Offers services to the plugin and announces them. Returns the number for the plugin to dial.
    pub(crate) async fn offer(&self, services: Routes) -> (u32, Offer) {
        let id = self.next_id();
        let offer = self.listen(id, services);
        self.announce(id, &offer).await;
        (id, offer)
    }

    /// A number that was not used for an offer yet.
    pub(crate) fn next_id(&self) -> u32 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Offers services without announcing them. The same number gives the same address.
    pub(crate) fn listen(&self, id: u32, services: Routes) -> Offer {
        self.listen_as(&self.identity, id, services)
    }

    /// Offers services on a listener that uses another identity than the host's.
    pub(crate) fn listen_as(&self, identity: &Identity, id: u32, services: Routes) -> Offer {
        let tls = self.acceptor_as(identity);
        Offer::new(self.sockets.path().join(id.to_string()), tls, services)
    }

    /// Announces the address of an offer.
    pub(crate) async fn announce(&self, id: u32, offer: &Offer) {
        self.announce_at("unix", id, &offer.path).await;
    }

    /// Announces services on any network and path.
    pub(crate) async fn announce_at(&self, network: &str, service_id: u32, path: &Path) {
        let address = path.to_str().unwrap().to_owned();
        let info = ConnInfo {
            service_id,
            network: network.to_owned(),
            address,
            knock: None,
        };
        self.announce.send(info).await.unwrap();
    }

    /// Checks the plugin's health under go-plugin's name.
    pub(crate) async fn ping(&self) -> ServingStatus {
        health(self.channel(), "plugin").await.unwrap()
    }

    /// Asks the plugin to shut down.
    pub(crate) async fn shutdown(&self) {
        GrpcControllerClient::new(self.channel())
            .shutdown(pb::Empty {})
            .await
            .unwrap();
    }
}

/// Services on their own listener. They end when this is dropped.
pub(crate) struct Offer {
    path: PathBuf,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

impl Offer {
    fn new(path: PathBuf, tls: TlsAcceptor, services: Routes) -> Self {
        let listener = UnixListener::bind(&path).unwrap();
        let stop = CancellationToken::new();
        let (accepted, connections) = mpsc::channel(1);
        let server = Server::builder()
            .add_routes(services)
            .serve_with_incoming_shutdown(
                ReceiverStream::new(connections),
                stop.clone().cancelled_owned(),
            );
        let accept = stop
            .clone()
            .run_until_cancelled_owned(accept(listener, tls, accepted));
        let server = tokio::spawn(async move {
            let (served, _) = tokio::join!(server, accept);
            served.unwrap();
        });
        Self { path, stop, server }
    }

    /// The path of its socket.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Withdraws the offer and waits until its last connection is closed.
    pub(crate) async fn withdraw(mut self) {
        self.stop.cancel();
        (&mut self.server).await.unwrap();
        std::fs::remove_file(&self.path).unwrap();
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Connects to a plugin and does the TLS handshake.
pub(crate) async fn tls_stream(
    socket: &Path,
    tls: ClientConfig,
) -> io::Result<client::TlsStream<UnixStream>> {
    let stream = UnixStream::connect(socket).await?;
    TlsConnector::from(Arc::new(tls))
        .connect("localhost".try_into().unwrap(), stream)
        .await
}

/// Checks the health of a service.
pub(crate) async fn health(channel: Channel, name: &str) -> Result<ServingStatus, tonic::Status> {
    let request = HealthCheckRequest {
        service: name.to_owned(),
    };
    HealthClient::new(channel)
        .check(request)
        .await
        .map(|answer| answer.into_inner().status())
}

/// An HTTP/2 connection to a plugin.
async fn channel(socket: PathBuf, tls: ClientConfig) -> Channel {
    let connector = service_fn(move |_: Uri| {
        let (socket, tls) = (socket.clone(), tls.clone());
        async move { tls_stream(&socket, tls).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
        .unwrap()
}

/// Opens the broker's stream in a task: gRPC for Go does not answer before it receives a message, and a
/// host that waited for the answer here would never send the first one.
fn broker_stream(channel: Channel, announced: mpsc::Receiver<ConnInfo>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut client = GrpcBrokerClient::new(channel);
        let answer = client.start_stream(ReceiverStream::new(announced)).await;
        let mut announcements = answer.unwrap().into_inner();
        while let Ok(Some(_)) = announcements.message().await {}
    })
}

fn stdio_stream(channel: Channel) -> JoinHandle<usize> {
    tokio::spawn(async move {
        let mut client = GrpcStdioClient::new(channel);
        let mut messages = client.stream_stdio(()).await.unwrap().into_inner();
        let mut count = 0;
        while let Ok(Some(_)) = messages.message().await {
            count += 1;
        }
        count
    })
}

async fn accept(
    listener: UnixListener,
    tls: TlsAcceptor,
    accepted: mpsc::Sender<io::Result<server::TlsStream<UnixStream>>>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        // A rejected plugin learns it from TLS; the server need not know.
        if let Ok(stream) = tls.accept(stream).await {
            let _ = accepted.send(Ok(stream)).await;
        }
    }
}
