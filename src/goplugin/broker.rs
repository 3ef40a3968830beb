//! Connections from the plugin to services of the host.
//!
//! The host numbers each set of services that it offers. It passes the number to the plugin in a call,
//! and tells the broker the address for that number. The two can arrive in either order, so
//! [`Broker::dial`] waits. The plugin never offers services to the host through the broker.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use hyper_util::rt::TokioIo;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Response, Status, Streaming};
use tower::service_fn;

use super::coalesce::Coalesced;
use super::error::BrokerError;
use super::pb::ConnInfo;
use super::pb::grpc_broker_server::GrpcBroker;
use super::tls::Tls;
use super::transport::{Address, ByteStream};

/// Connects to the services that the host offers. Clones share the host's announcements.
#[derive(Clone)]
pub struct Broker {
    announced: Arc<Announcements>,
    tls: Option<Tls>,
}

impl Broker {
    /// A broker that secures its connections with `tls`, if the host uses TLS.
    pub(super) fn new(tls: Option<Tls>) -> Self {
        Self {
            announced: Arc::default(),
            tls,
        }
    }

    /// Connects to the services that the host offers under `service_id`.
    ///
    /// Waits up to five seconds for the host's announcement, as go-plugin does, and up to five more for
    /// the connection. An announcement can be used once. Message size limits are set on the generated
    /// clients. The connection closes when the last client is dropped.
    ///
    /// If the connection breaks while the host's listener is open, the channel reconnects to the same
    /// address on the next call. Once the listener is gone, reconnecting fails at once.
    ///
    /// # Errors
    /// [`BrokerError::NotAnnounced`] if the announcement does not arrive,
    /// [`BrokerError::UnsupportedNetwork`] if its network is unknown, and [`BrokerError::Unreachable`]
    /// if nothing answers at that address, or something other than the host.
    pub async fn dial(&self, service_id: u32) -> Result<Channel, BrokerError> {
        let info = timeout(ANNOUNCEMENT_WAIT, self.announced.take(service_id))
            .await
            .map_err(|_| BrokerError::NotAnnounced { service_id })?;
        let address = Arc::new(Address::try_from(info)?);
        let tls = self.tls.clone();
        let connector = service_fn(move |_: Uri| {
            let (address, tls) = (Arc::clone(&address), tls.clone());
            async move {
                let stream = connect(&address, tls.as_ref()).await?;
                Ok::<_, io::Error>(TokioIo::new(Coalesced::new(stream)))
            }
        });
        // The scheme must be http, or tonic would set up TLS itself. Keep-alive stays off: gRPC for Go
        // closes connections that ping more than once in five minutes.
        Endpoint::from_static("http://localhost")
            .connect_with_connector(connector)
            .await
            .map_err(|source| BrokerError::Unreachable { service_id, source })
    }

    /// The service that receives the host's announcements. Its streams end when `stop` is cancelled.
    pub(super) fn service(&self, stop: CancellationToken) -> BrokerService {
        BrokerService {
            announced: Arc::clone(&self.announced),
            stop,
        }
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("announced", &self.announced)
            .finish_non_exhaustive()
    }
}

/// `plugin.GRPCBroker`: the stream on which the host announces its services.
#[derive(Debug)]
pub(super) struct BrokerService {
    announced: Arc<Announcements>,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl GrpcBroker for BrokerService {
    type StartStreamStream = BoxStream<'static, Result<ConnInfo, Status>>;

    async fn start_stream(
        &self,
        request: Request<Streaming<ConnInfo>>,
    ) -> Result<Response<Self::StartStreamStream>, Status> {
        let announced = Arc::clone(&self.announced);
        let stop = self.stop.clone();
        tokio::spawn(stop.run_until_cancelled_owned(listen(request.into_inner(), announced)));
        // Nothing is announced in this direction, but a host treats the end of this stream as the
        // plugin's exit.
        let ended = self.stop.clone().cancelled_owned();
        Ok(Response::new(stream::pending().take_until(ended).boxed()))
    }
}

/// Announcements of the host that were not used yet.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    // Never held across an await, so not tokio's.
    waiting: Mutex<HashMap<u32, Announcement>>,
    arrived: Notify,
}

impl Announcements {
    /// Keeps an announcement until it is taken or [`ANNOUNCEMENT_LIFE`] has passed.
    fn put(&self, info: ConnInfo) {
        let now = Instant::now();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, announcement| now < announcement.expires);
        let expires = now + ANNOUNCEMENT_LIFE;
        waiting.insert(info.service_id, Announcement { info, expires });
        drop(waiting);
        self.arrived.notify_waiters();
    }

    /// Takes the announcement of `service_id`, waiting for it without limit.
    pub(super) async fn take(&self, service_id: u32) -> ConnInfo {
        loop {
            // Subscribed before checking, so that an arrival after the check is not missed.
            let arrived = self.arrived.notified();
            if let Some(info) = self.take_waiting(service_id) {
                return info;
            }
            arrived.await;
        }
    }

    /// The numbers of the announcements that were not taken yet.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn numbers(&self) -> Vec<u32> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.keys().copied().collect()
    }

    fn take_waiting(&self, service_id: u32) -> Option<ConnInfo> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let announcement = waiting.remove(&service_id)?;
        (Instant::now() < announcement.expires).then_some(announcement.info)
    }
}

#[derive(Debug)]
struct Announcement {
    info: ConnInfo,
    expires: Instant,
}

/// Collects announcements until the host ends the stream.
pub(super) async fn listen(mut stream: Streaming<ConnInfo>, announced: Arc<Announcements>) {
    while let Some(Ok(info)) = stream.next().await {
        tracing::trace!(
            service_id = info.service_id,
            network = info.network,
            "announced"
        );
        announced.put(info);
    }
    tracing::debug!("the host closed its broker stream");
}

/// Opens a connection and secures it, within [`CONNECT_LIMIT`].
async fn connect(address: &Address, tls: Option<&Tls>) -> io::Result<ByteStream> {
    let secured = async {
        let stream = address.connect().await?;
        match tls {
            Some(tls) => tls.connect(stream).await,
            None => Ok(stream),
        }
    };
    timeout(CONNECT_LIMIT, secured).await?
}

/// How long `dial` waits for an announcement. go-plugin's value.
const ANNOUNCEMENT_WAIT: Duration = Duration::from_secs(5);

/// How long an announcement is kept for `dial`. go-plugin keeps it for five seconds. The host's
/// listener stays open for much longer, and a busy machine may need more time.
const ANNOUNCEMENT_LIFE: Duration = Duration::from_secs(60);

/// Time limit for connecting the socket and the TLS handshake together.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn announcement(service_id: u32, address: &str) -> ConnInfo {
        ConnInfo {
            service_id,
            address: address.into(),
            ..ConnInfo::default()
        }
    }

    async fn take(announced: &Announcements, service_id: u32) -> Option<String> {
        let taken = timeout(ANNOUNCEMENT_WAIT, announced.take(service_id)).await;
        taken.ok().map(|info| info.address)
    }

    #[tokio::test(start_paused = true)]
    async fn an_announcement_goes_to_whoever_asked_for_its_number() {
        let announced = Announcements::default();
        let (first, second, ()) = tokio::join!(take(&announced, 1), take(&announced, 2), async {
            announced.put(announcement(2, "two"));
            announced.put(announcement(1, "one"));
        });
        assert_eq!(
            (first.as_deref(), second.as_deref()),
            (Some("one"), Some("two"))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_announcement_is_taken_once() {
        let announced = Announcements::default();
        announced.put(announcement(7, "here"));
        assert_eq!(take(&announced, 7).await.as_deref(), Some("here"));
        assert_eq!(take(&announced, 7).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_announcement_that_nobody_takes_expires_and_is_forgotten() {
        let announced = Announcements::default();
        announced.put(announcement(7, "here"));
        tokio::time::advance(ANNOUNCEMENT_LIFE).await;
        announced.put(announcement(8, "there"));
        assert_eq!(take(&announced, 7).await, None);
        assert_eq!(announced.waiting.lock().unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn giving_up_leaves_nothing_behind() {
        let announced = Announcements::default();
        assert_eq!(take(&announced, 7).await, None);
        announced.put(announcement(7, "late"));
        assert_eq!(take(&announced, 7).await.as_deref(), Some("late"));
    }
}
