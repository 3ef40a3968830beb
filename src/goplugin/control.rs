//! go-plugin's own small services: the controller, through which a host shuts the plugin down, and the
//! stdio stream, on which a plugin may forward its output.

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::pb::grpc_controller_server::GrpcController;
use super::pb::grpc_stdio_server::GrpcStdio;
use super::pb::{Empty, StdioData};

/// `plugin.GRPCController`: shuts the plugin down when the host asks for it.
#[derive(Debug)]
pub(super) struct Controller {
    stop: CancellationToken,
}

impl Controller {
    /// A controller that cancels `stop` when the host requests a shutdown.
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self { stop }
    }
}

#[tonic::async_trait]
impl GrpcController for Controller {
    async fn shutdown(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        tracing::debug!("the host requested a shutdown");
        // The server drains calls in flight, so this reply is still sent.
        self.stop.cancel();
        Ok(Response::new(Empty {}))
    }
}

/// `plugin.GRPCStdio`: a stream that stays silent until the plugin ends.
///
/// This plugin prints nothing and hosts discard the stream, but they log a warning if it is missing.
#[derive(Debug)]
pub(super) struct Stdio {
    stop: CancellationToken,
}

impl Stdio {
    /// A stream that ends when `stop` is cancelled.
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self { stop }
    }
}

#[tonic::async_trait]
impl GrpcStdio for Stdio {
    type StreamStdioStream = BoxStream<'static, Result<StdioData, Status>>;

    async fn stream_stdio(
        &self,
        _: Request<()>,
    ) -> Result<Response<Self::StreamStdioStream>, Status> {
        let ended = self.stop.clone().cancelled_owned();
        Ok(Response::new(stream::pending().take_until(ended).boxed()))
    }
}
