//! The life of a plugin's process, from the handshake to shutdown.
//!
//! Called by a program's `main`, which owns the process: nothing here exits. Stdout is written once,
//! with the handshake line.

use std::io::Write;
use std::time::Duration;

use futures::TryStreamExt as _;
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::ServingStatus;

use super::broker::Broker;
use super::coalesce::Coalesced;
use super::control::{Controller, Stdio};
use super::error::ServeError;
use super::handshake::{Environment, Handshake, HandshakeLine, Plaintext};
use super::host_watch::{HostWatch, orphaned};
use super::listener::Listener;
use super::pb::grpc_broker_server::GrpcBrokerServer;
use super::pb::grpc_controller_server::GrpcControllerServer;
use super::pb::grpc_stdio_server::GrpcStdioServer;
use super::tls::Tls;

/// Serves a plugin to the host that started this process, until the host shuts it down or is gone.
///
/// `services` receives the broker and returns the gRPC services of the plugin. go-plugin's own services
/// (health, broker, controller, stdio) are added. The handshake line is written to `stdout`. `now` is
/// the start time, for the certificate.
///
/// # Guarantees
/// - Only the host is served, and nothing is written to `stdout` before the socket accepts connections.
/// - `SIGINT` is ignored for the rest of the process's life: a Ctrl-C in the host's terminal reaches
///   the plugin too, but the host decides when to stop.
/// - When this returns, the socket is removed, and a host that requested the shutdown has its reply.
///   That takes at most about a second; a host waits for two before it kills the process.
///
/// # Errors
/// See [`ServeError`]. After the handshake line, only [`ServeError::Server`] can occur.
pub async fn serve(
    handshake: &Handshake,
    environment: &Environment,
    now: Timestamp,
    stdout: impl Write,
    services: impl FnOnce(Broker) -> Routes,
) -> Result<Ending, ServeError> {
    let orphaned = orphaned(rustix::process::getppid);
    let tls = security(handshake, environment, now)?;
    // Once installed, the handler stays. The received signals are ignored.
    let _interrupts = signal(SignalKind::interrupt()).map_err(ServeError::Signal)?;

    let stop = CancellationToken::new();
    // If this future is dropped midway, its tasks end too.
    let _stop_on_drop = stop.clone().drop_guard();
    let watch = HostWatch::new();
    let broker = Broker::new(tls.clone());

    let listener = Listener::bind(&environment.socket_dir, environment.socket_group.as_deref())?;
    let line = HandshakeLine {
        app_protocol: handshake.app_protocol,
        socket: listener.address()?,
        certificate: tls.as_ref().map(Tls::certificate),
        multiplexing_asked: environment.multiplexing_asked,
    }
    .to_string();
    let routes = add_own_services(services(broker.clone()), &broker, &stop).await;
    let connections = listener
        .connections(tls, watch.clone(), stop.clone())
        .map_ok(Coalesced::new);
    announce(stdout, &line).map_err(ServeError::Announce)?;

    let mut server = std::pin::pin!(
        Server::builder()
            // A host may cancel calls before they are seen here; that is not an attack. After a pause
            // of this process there can be many, and tonic's default would close the only connection.
            .http2_max_pending_accept_reset_streams(Some(usize::MAX))
            .add_routes(routes)
            .serve_with_incoming_shutdown(connections, stop.clone().cancelled_owned())
    );
    let ending = tokio::select! {
        ended = &mut server => return ended.map(|()| Ending::Shutdown).map_err(ServeError::Server),
        () = stop.cancelled() => Ending::Shutdown,
        () = watch.disconnected() => Ending::HostGone,
        () = orphaned => Ending::HostGone,
    };
    stop.cancel();
    // Calls that do not finish in time end with the process.
    let _ = timeout(DRAIN_LIMIT, server).await;
    Ok(ending)
}

/// Why a plugin shut down normally.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The host requested it.
    Shutdown,
    /// The host is gone without notice.
    HostGone,
}

/// Checks who started the process, and decides how connections are secured.
fn security(
    handshake: &Handshake,
    environment: &Environment,
    now: Timestamp,
) -> Result<Option<Tls>, ServeError> {
    if !environment.started_by_host {
        return Err(ServeError::NotAPlugin);
    }
    if !environment
        .offered_protocols
        .contains(&handshake.app_protocol)
    {
        // Not an error here: given our version, the host explains the mismatch to its user.
        tracing::warn!(
            offered = ?environment.offered_protocols,
            ours = handshake.app_protocol,
            "the host does not offer our protocol version"
        );
    }
    match (&environment.client_certificate, handshake.plaintext) {
        (Some(certificate), _) => Tls::with_host(certificate, now).map(Some),
        (None, Plaintext::Allowed) => Ok(None),
        (None, Plaintext::Refused) => Err(ServeError::NoHostCertificate),
    }
}

/// Adds the services that go-plugin requires of every plugin.
async fn add_own_services(routes: Routes, broker: &Broker, stop: &CancellationToken) -> Routes {
    let (health, health_service) = tonic_health::server::health_reporter();
    health
        .set_service_status(HEALTH_SERVICE, ServingStatus::Serving)
        .await;
    routes
        .add_service(health_service)
        .add_service(GrpcBrokerServer::new(broker.service(stop.clone())))
        .add_service(GrpcControllerServer::new(Controller::new(stop.clone())))
        .add_service(GrpcStdioServer::new(Stdio::new(stop.clone())))
}

/// Writes the handshake line and drops `stdout`.
fn announce(mut stdout: impl Write, line: &str) -> std::io::Result<()> {
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

/// The name under which a host checks a plugin's health.
const HEALTH_SERVICE: &str = "plugin";

/// How long calls in flight may take after a shutdown request.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);
