//! What can go wrong: at the start of a plugin, and on the way to the host's services.

use std::path::PathBuf;

use thiserror::Error;

/// Why a plugin could not be served.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The cookie is missing or wrong: a person has started the program, not a host.
    #[error("not started by a plugin host")]
    NotAPlugin,
    /// The host has sent no certificate, and [`Plaintext`] is refused.
    #[error("the host sent no certificate in PLUGIN_CLIENT_CERT: it must use AutoMTLS")]
    NoHostCertificate,
    /// The host's certificate is not PEM.
    #[error("PLUGIN_CLIENT_CERT holds no certificate in PEM form")]
    HostCertificate {
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No certificate or TLS configuration could be made.
    #[error("cannot make a certificate for AutoMTLS")]
    OwnCertificate {
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The socket could not be created: no such directory, no right to write, path too long.
    #[error("cannot listen on {}", path.display())]
    Socket {
        /// The socket's path.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The socket's path has a character that the handshake line cannot carry.
    #[error("the handshake line cannot carry the path {}", path.display())]
    SocketName {
        /// The socket's path.
        path: PathBuf,
    },
    /// `SIGINT` could not be taken over.
    #[error("cannot ignore SIGINT")]
    Signal(#[source] std::io::Error),
    /// The handshake line could not be written.
    #[error("cannot write the handshake line to stdout")]
    Announce(#[source] std::io::Error),
    /// The gRPC server has failed.
    #[error("the gRPC server failed")]
    Server(#[source] tonic::transport::Error),
}

/// Why the host's services could not be reached.
#[derive(Debug, Error)]
pub enum BrokerError {
    /// The host has not said in time where the services are, or somebody else has taken the word.
    #[error("timeout waiting for connection info of brokered service {service_id}")]
    NotAnnounced {
        /// The number that was asked for.
        service_id: u32,
    },
    /// The host offers its services over something that is neither a unix socket nor TCP.
    #[error("the host offers a service over {network:?}; only unix and tcp are known")]
    UnsupportedNetwork {
        /// What the host said.
        network: String,
    },
    /// No connection came about: nobody listens, too slow, or not the host.
    #[error("cannot connect to brokered service {service_id}: {}", root(source))]
    Unreachable {
        /// The number that was asked for.
        service_id: u32,
        /// What went wrong.
        source: tonic::transport::Error,
    },
}

/// What an error goes back to. The layers above it only say that there was no connection.
fn root<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a dyn std::error::Error {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root
}
