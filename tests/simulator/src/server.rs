//! Accepts connections, and breaks them on purpose.
//!
//! `axum::serve` lets open connections outlive it and cannot reset one, so the loop is written here.

use std::sync::Arc;

use axum::response::Response;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

/// Ends the connection of a request.
#[derive(Clone, Debug)]
pub(crate) struct Cut(Arc<Notify>);

impl Cut {
    /// For a connection that is still open.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Notify::new()))
    }

    /// Returns when the connection should be reset.
    pub(crate) async fn made(&self) {
        self.0.notified().await;
    }

    /// Resets the connection. Never returns: the caller ends with it.
    pub(crate) async fn reset_connection(&self) -> Response {
        self.0.notify_one();
        std::future::pending().await
    }
}

/// Serves until stopped, or until the other end of `stop` is dropped; all connections end with it.
pub(crate) async fn serve(listener: TcpListener, app: Router, mut stop: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(connection(stream, app.clone()));
                }
            }
            // Keeps the set from growing with every past connection.
            Some(_) = connections.join_next() => {}
            _ = &mut stop => break,
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn connection(stream: TcpStream, app: Router) {
    let cut = Cut::new();
    // Small replies must not wait for each other.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(app.layer(Extension(cut.clone())));
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // A client that disconnects is not the server's problem.
        _ = &mut connection => {}
        () = cut.made() => {
            let stream = connection.into_parts().io.into_inner();
            // Without lingering, closing sends a reset instead of an orderly close.
            let _ = stream.set_zero_linger();
        }
    }
}
