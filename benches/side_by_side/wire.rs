//! The two connections between host and plugin, with as little work as possible in the host, so that
//! the plugin is measured: plain HTTP/2, one task per connection, and requests that are encoded once.

use std::os::unix::net::UnixListener as StdListener;
use std::path::PathBuf;
use std::thread;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{RecvStream, client, server};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{HeaderMap, Request, Response};
use prost::Message;
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt as _;
use vault_plugin_secrets_openrouter::goplugin::Coalesced;
use vault_plugin_secrets_openrouter::logical::pb::backend::{
    HandleRequestArgs, HandleRequestReply, Request as VaultRequest,
};

use crate::support::host::{Host, tls_stream};

/// A connection on which the plugin is called.
pub(crate) struct Wire {
    calls: SendRequest<Bytes>,
    _driver: AbortOnDropHandle<Result<(), h2::Error>>,
}

impl Wire {
    /// Opens another connection to the plugin, in addition to the host's own.
    pub(crate) async fn to(host: &Host, socket: PathBuf) -> Self {
        let stream = tls_stream(&socket, host.client_tls()).await;
        let stream = Coalesced::new(stream.expect("the plugin accepts"));
        let handshake = client::handshake(stream).await;
        let (calls, driver) = handshake.expect("an HTTP/2 connection");
        Self {
            calls,
            _driver: AbortOnDropHandle::new(tokio::spawn(driver)),
        }
    }

    /// A request to the mount with this id, which can be sent repeatedly.
    pub(crate) fn call(&self, mount: &str, request: VaultRequest) -> Call {
        let headers = Request::post("http://localhost/pb.Backend/HandleRequest")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("multiplex_id", mount)
            .body(());
        let args = HandleRequestArgs {
            request: Some(request),
            ..HandleRequestArgs::default()
        };
        let message = args.encode_to_vec();
        let length = u32::try_from(message.len()).expect("a short message");
        Call {
            calls: self.calls.clone(),
            headers: headers.expect("a request"),
            // One byte that marks the message as uncompressed, and four for its length.
            message: [&[0], &length.to_be_bytes()[..], &message].concat().into(),
        }
    }
}

/// A call of the plugin, ready to be sent.
pub(crate) struct Call {
    calls: SendRequest<Bytes>,
    headers: Request<()>,
    message: Bytes,
}

impl Call {
    /// Sends it; panics if there is no answer.
    pub(crate) async fn send(&self) -> HandleRequestReply {
        let calls = self.calls.clone().ready().await;
        let mut calls = calls.expect("the connection lives");
        let (answer, mut body) = calls.send_request(self.headers.clone(), false).unwrap();
        body.send_data(self.message.clone(), true).unwrap();
        let mut answer = answer.await.expect("an answer").into_body();
        let message = whole(&mut answer).await;
        let trailers = answer.trailers().await.unwrap().unwrap_or_default();
        assert_eq!(trailers.get("grpc-status").unwrap(), "0", "{trailers:?}");
        HandleRequestReply::decode(&message[5..]).unwrap()
    }
}

/// Services for the plugin, on their own listener. They end when this is dropped.
pub(crate) struct Offer {
    _sockets: TempDir,
    _stop: DropGuard,
}

impl Offer {
    /// Offers services and announces them. Returns the number for the plugin to dial.
    pub(crate) async fn by(host: &Host, services: Routes) -> (u32, Self) {
        let sockets = tempfile::tempdir().unwrap();
        let path = sockets.path().join("services");
        let listener = StdListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let tls = host.acceptor();
        // A separate thread, as in a server: a list of ten thousand names, which the plugin reads in
        // the background, must not delay a caller that waits for a key.
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let listener = UnixListener::from_std(listener).unwrap();
                let served = listen(listener, tls, services.prepare());
                stopped.run_until_cancelled(served).await;
            });
        });
        let id = host.next_id();
        host.announce_at("unix", id, &path).await;
        let offer = Self {
            _sockets: sockets,
            _stop: stop.drop_guard(),
        };
        (id, offer)
    }
}

async fn listen(listener: UnixListener, tls: TlsAcceptor, services: Routes) {
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            stream = listener.accept() => {
                let (stream, _) = stream.unwrap();
                connections.push(serve(stream, &tls, &services));
            }
            Some(()) = connections.next() => {}
        }
    }
}

/// Answers calls until the plugin closes the connection.
async fn serve(stream: UnixStream, tls: &TlsAcceptor, services: &Routes) {
    let stream = tls
        .accept(stream)
        .await
        .expect("the plugin shows who it is");
    let mut connection = server::handshake(Coalesced::new(stream)).await.unwrap();
    let mut calls = FuturesUnordered::new();
    loop {
        tokio::select! {
            call = connection.accept() => match call {
                Some(Ok((request, respond))) => calls.push(answer(request, respond, services.clone())),
                _ => return,
            },
            Some(()) = calls.next() => {}
        }
    }
}

async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, services: Routes) {
    let (head, mut body) = request.into_parts();
    let message = whole(&mut body).await;
    let request = Request::from_parts(head, Body::new(Full::new(message)));
    let (head, mut body) = services.oneshot(request).await.unwrap().into_parts();
    let mut stream = respond
        .send_response(Response::from_parts(head, ()), false)
        .unwrap();
    let mut trailers = HeaderMap::new();
    while let Some(frame) = body.frame().await {
        match frame.unwrap().into_data() {
            Ok(data) => stream.send_data(data, false).unwrap(),
            Err(frame) => trailers.extend(frame.into_trailers().unwrap()),
        }
    }
    stream.send_trailers(trailers).unwrap();
}

/// All data of a stream before its trailers.
async fn whole(stream: &mut RecvStream) -> Bytes {
    let mut whole = Bytes::new();
    while let Some(part) = stream.data().await {
        let part = part.unwrap();
        stream.flow_control().release_capacity(part.len()).unwrap();
        whole = if whole.is_empty() {
            part
        } else {
            [whole, part].concat().into()
        };
    }
    whole
}
