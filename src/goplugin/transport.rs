//! Byte streams and their addresses.
//!
//! TLS and HTTP/2 run over a [`ByteStream`] without knowing the carrier, so that another carrier (for
//! example a multiplexed stream) needs no change above this file.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::server::Connected;

use super::error::BrokerError;
use super::host_watch::Presence;
use super::pb::ConnInfo;

/// One connection over any carrier.
pub(super) struct ByteStream {
    io: Box<dyn Duplex>,
    /// Marks the host as present while this connection lives.
    _presence: Option<Presence>,
}

impl ByteStream {
    /// Wraps a connection of any kind.
    pub(super) fn new(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self {
            io: Box::new(io),
            _presence: None,
        }
    }

    /// Counts this connection as a sign that the host is present, until it is dropped.
    pub(super) fn with_presence(self, presence: Presence) -> Self {
        Self {
            _presence: Some(presence),
            ..self
        }
    }
}

impl Connected for ByteStream {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for ByteStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// The address of a host's service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// Path of a unix socket.
    Unix(PathBuf),
    /// Host and port.
    Tcp(String),
}

impl Address {
    /// Opens a connection. Has no time limit.
    pub(super) async fn connect(&self) -> io::Result<ByteStream> {
        match self {
            Self::Unix(path) => Ok(ByteStream::new(UnixStream::connect(path).await?)),
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(ByteStream::new(stream))
            }
        }
    }
}

impl TryFrom<ConnInfo> for Address {
    type Error = BrokerError;

    /// Reads the host's announcement of a service. go-plugin uses these two networks.
    fn try_from(info: ConnInfo) -> Result<Self, BrokerError> {
        match info.network.as_str() {
            "unix" => Ok(Self::Unix(info.address.into())),
            "tcp" => Ok(Self::Tcp(info.address)),
            _ => Err(BrokerError::UnsupportedNetwork {
                network: info.network,
            }),
        }
    }
}

/// What a carrier must implement.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

#[cfg(test)]
mod tests {
    use super::*;

    fn announcement(network: &str, address: &str) -> ConnInfo {
        ConnInfo {
            network: network.into(),
            address: address.into(),
            ..ConnInfo::default()
        }
    }

    #[test]
    fn both_networks_of_go_plugin_are_read() {
        let unix = Address::try_from(announcement("unix", "/tmp/s")).unwrap();
        assert_eq!(unix, Address::Unix("/tmp/s".into()));
        let tcp = Address::try_from(announcement("tcp", "127.0.0.1:1")).unwrap();
        assert_eq!(tcp, Address::Tcp("127.0.0.1:1".into()));
    }

    #[test]
    fn another_network_is_refused_by_name() {
        let error = Address::try_from(announcement("carrier-pigeon", "x")).unwrap_err();
        assert!(error.to_string().contains("carrier-pigeon"), "{error}");
    }
}
