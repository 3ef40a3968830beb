//! What can go wrong: when a plugin starts, and when it connects to the host's services.

use std::path::PathBuf;

use thiserror::Error;

/// Why a plugin could not be served.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The cookie is missing or wrong: a person started the program, not a host.
    #[error("not started by a plugin host")]
    NotAPlugin,
    /// The host sent no certificate, and [`Plaintext`] is refused.
    #[error("the host sent no certificate in PLUGIN_CLIENT_CERT: it must use AutoMTLS")]
    NoHostCertificate,
    /// The host's certificate is not PEM.
    #[error("PLUGIN_CLIENT_CERT contains no PEM certificate")]
    HostCertificate {
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The certificate or the TLS configuration could not be created.
    #[error("cannot create a certificate for AutoMTLS")]
    OwnCertificate {
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The socket could not be created: the directory does not exist, permission is missing, or the
    /// path is too long.
    #[error("cannot listen on {}", path.display())]
    Socket {
        /// The socket's path.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The socket's path contains a character that the handshake line cannot carry.
    #[error("the handshake line cannot carry the path {}", path.display())]
    SocketName {
        /// The socket's path.
        path: PathBuf,
    },
    /// The handler for `SIGINT` could not be installed.
    #[error("cannot ignore SIGINT")]
    Signal(#[source] std::io::Error),
    /// The handshake line could not be written.
    #[error("cannot write the handshake line to stdout")]
    Announce(#[source] std::io::Error),
    /// The gRPC server failed.
    #[error("the gRPC server failed")]
    Server(#[source] tonic::transport::Error),
}

/// Why the host's services could not be reached.
#[derive(Debug, Error)]
pub enum BrokerError {
    /// The host did not announce the services in time, or another call used the announcement.
    #[error("timeout waiting for connection info of brokered service {service_id}")]
    NotAnnounced {
        /// The requested service number.
        service_id: u32,
    },
    /// The host offers its services over a network other than a unix socket or TCP.
    #[error("the host offers a service over {network:?}; only unix and tcp are supported")]
    UnsupportedNetwork {
        /// The network that the host named.
        network: String,
    },
    /// The connection failed: nothing listens, the peer is too slow, or it is not the host.
    #[error("cannot connect to brokered service {service_id}: {}", root(source))]
    Unreachable {
        /// The requested service number.
        service_id: u32,
        /// What went wrong.
        source: tonic::transport::Error,
    },
}

/// The root cause of an error. The layers above it only say that there was no connection.
fn root<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a dyn std::error::Error {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root
}
