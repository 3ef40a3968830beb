//! The life of a plugin's process, from the handshake to its end.
//!
//! Called by a program's `main`, which still owns the process: nothing here exits, and stdout is
//! written once, with the handshake line, and never again.

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

/// Serves a plugin to the host that has started this process, until the host ends it or is gone.
///
/// `services` gets the broker and gives the gRPC services of the plugin; go-plugin's own (health,
/// broker, controller, stdio) are added to them. `stdout` gets the handshake line. `now` is the
/// time at the start, for the certificate.
///
/// # Guarantees
/// - Nobody but the host is served, and nothing is written to `stdout` before the socket accepts.
/// - `SIGINT` is ignored from here on for as long as the process lives: a Ctrl-C in the host's
///   terminal reaches the plugin too, and it is the host who decides.
/// - When this returns the socket is gone, and a host that has asked for the end has its answer.
///   That takes at most about a second; a host waits for two before it kills.
///
/// # Errors
/// See [`ServeError`]. After the handshake line only [`ServeError::Server`] can come.
pub async fn serve(
    handshake: &Handshake,
    environment: &Environment,
    now: Timestamp,
    stdout: impl Write,
    services: impl FnOnce(Broker) -> Routes,
) -> Result<Ending, ServeError> {
    let orphaned = orphaned(rustix::process::getppid);
    let tls = security(handshake, environment, now)?;
    // Installed once, the handler stays; nobody asks what it has received.
    let _interrupts = signal(SignalKind::interrupt()).map_err(ServeError::Signal)?;

    let stop = CancellationToken::new();
    // If this future is dropped midway its tasks end as well.
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
            // Calls that the host gives up before we have seen them are no attack by it: after a
            // pause of this process there can be many, and the default ends the one connection.
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
    // What does not end in time ends with the process.
    let _ = timeout(DRAIN_LIMIT, server).await;
    Ok(ending)
}

/// Why a plugin ended in good order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The host has asked for it.
    Shutdown,
    /// The host has gone away without a word.
    HostGone,
}

/// Checks who has started us, and settles how connections are secured.
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
        // Not an error here: told our version, the host explains the mismatch to its user.
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

/// Adds the services that go-plugin itself wants of every plugin.
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

/// Writes the handshake line and gives `stdout` up.
fn announce(mut stdout: impl Write, line: &str) -> std::io::Result<()> {
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

/// The name under which a host asks for a plugin's health.
const HEALTH_SERVICE: &str = "plugin";

/// How long calls in flight may take after the end has been asked for.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);
