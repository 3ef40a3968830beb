//! Connections from the plugin to services of the host.
//!
//! The plugin runs in the test's own process, which has a broker to dial with. The host is still reached over
//! a socket and TLS.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{self, Write};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::service::Routes;
use tonic_health::ServingStatus as Served;
use tonic_health::pb::health_check_response::ServingStatus;
use vault_plugin_secrets_openrouter::goplugin::{
    Broker, BrokerError, Cookie, Ending, Environment, Handshake, Plaintext, ServeError, serve,
};

use self::support::host::{Host, health};
use self::support::identity::Identity;
use self::support::process::{HandshakeLine, PATIENCE};

mod support;

const COOKIE: Cookie = Cookie {
    key: "COOKIE",
    value: "crumbs",
};

/// A plugin in this process, its broker, and a host that is connected to it.
struct Pair {
    host: Host,
    broker: Broker,
    plugin: JoinHandle<Result<Ending, ServeError>>,
    identity: Identity,
}

impl Pair {
    async fn start() -> Self {
        let identity = Identity::new();
        let pem = identity.pem();
        let environment = Environment::from_lookup(&COOKIE, |name| match name {
            "COOKIE" => Some(COOKIE.value.into()),
            "PLUGIN_PROTOCOL_VERSIONS" => Some("1".into()),
            "PLUGIN_CLIENT_CERT" => Some(pem.clone().into()),
            _ => None,
        });
        let (say, mut said) = mpsc::unbounded_channel();
        let stdout = Stdout {
            written: Vec::new(),
            say,
        };
        let (give, given) = oneshot::channel();
        let plugin = tokio::spawn(async move {
            let handshake = Handshake {
                cookie: COOKIE,
                app_protocol: 1,
                plaintext: Plaintext::Refused,
            };
            serve(
                &handshake,
                &environment,
                Timestamp::UNIX_EPOCH,
                stdout,
                |broker| {
                    give.send(broker).unwrap();
                    Routes::default()
                },
            )
            .await
        });
        let line = HandshakeLine::parse(said.recv().await.unwrap().trim_end());
        let host = Host::connect(identity.copy(), &line).await;
        Self {
            host,
            broker: given.await.unwrap(),
            plugin,
            identity,
        }
    }
}

/// Sends what has been written when it is flushed.
struct Stdout {
    written: Vec<u8>,
    say: mpsc::UnboundedSender<String>,
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = String::from_utf8(std::mem::take(&mut self.written));
        self.say
            .send(written.map_err(io::Error::other)?)
            .map_err(io::Error::other)
    }
}

/// Services that can be distinguished from others: health, with `name` as the serving service.
async fn services(name: &str) -> Routes {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status(name, Served::Serving).await;
    Routes::new(service)
}

#[tokio::test]
async fn a_service_that_is_announced_before_it_is_dialled_is_reached() {
    let Pair { host, broker, .. } = &Pair::start().await;
    let (id, _offer) = host.offer(services("storage").await).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let channel = broker.dial(id).await.unwrap();
    assert_eq!(
        health(channel, "storage").await.unwrap(),
        ServingStatus::Serving
    );
}

#[tokio::test]
async fn a_service_that_is_dialled_before_it_is_announced_is_reached() {
    let Pair { host, broker, .. } = &Pair::start().await;
    let id = host.next_id();
    let announce = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let offer = host.listen(id, services("storage").await);
        host.announce(id, &offer).await;
        offer
    };
    let (channel, _offer) = tokio::join!(broker.dial(id), announce);
    assert_eq!(
        health(channel.unwrap(), "storage").await.unwrap(),
        ServingStatus::Serving
    );
}

#[tokio::test]
async fn each_number_leads_to_its_own_service() {
    let Pair { host, broker, .. } = &Pair::start().await;
    let (first, _offer) = host.offer(services("one").await).await;
    let (second, _offer) = host.offer(services("two").await).await;
    let (one, two) = tokio::join!(broker.dial(first), broker.dial(second));
    assert_eq!(
        health(one.unwrap(), "one").await.unwrap(),
        ServingStatus::Serving
    );
    assert_eq!(
        health(two.unwrap(), "two").await.unwrap(),
        ServingStatus::Serving
    );
}

#[tokio::test]
async fn the_connection_is_closed_when_its_last_channel_is_dropped() {
    let Pair { host, broker, .. } = &Pair::start().await;
    let (id, offer) = host.offer(services("storage").await).await;
    let channel = broker.dial(id).await.unwrap();
    let withdrawn = tokio::spawn(offer.withdraw());
    drop(channel);
    timeout(PATIENCE, withdrawn).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_broken_connection_is_made_anew_while_the_host_listens_and_fails_when_not() {
    let Pair { host, broker, .. } = &Pair::start().await;
    let (id, offer) = host.offer(services("storage").await).await;
    let channel = broker.dial(id).await.unwrap();

    offer.withdraw().await;
    let unreachable = timeout(PATIENCE, health(channel.clone(), "storage")).await;
    assert!(matches!(unreachable, Ok(Err(_))), "{unreachable:?}");

    let _offer = host.listen(id, services("storage").await);
    assert_eq!(
        health(channel, "storage").await.unwrap(),
        ServingStatus::Serving
    );
}

#[tokio::test]
async fn a_listener_that_shows_another_certificate_is_not_the_host() {
    let Pair { host, broker, .. } = &Pair::start().await;
    let id = host.next_id();
    let offer = host.listen_as(&Identity::new(), id, services("storage").await);
    host.announce(id, &offer).await;
    let refused = broker.dial(id).await;
    assert!(
        matches!(refused, Err(BrokerError::Unreachable { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_listener_that_shows_the_hosts_certificate_without_its_key_is_not_the_host() {
    let Pair {
        host,
        broker,
        identity,
        ..
    } = &Pair::start().await;
    let id = host.next_id();
    let offer = host.listen_as(&identity.forged(), id, services("storage").await);
    host.announce(id, &offer).await;
    let refused = broker.dial(id).await;
    assert!(
        matches!(refused, Err(BrokerError::Unreachable { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn an_announcement_of_nothing_is_an_error_and_not_a_wait() {
    let Pair { host, broker, .. } = &Pair::start().await;
    let id = host.next_id();
    host.announce_at("unix", id, "/nowhere/at/all".as_ref())
        .await;
    let refused = timeout(PATIENCE, broker.dial(id)).await.unwrap();
    assert!(
        matches!(refused, Err(BrokerError::Unreachable { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_network_that_go_plugin_does_not_know_is_refused() {
    let Pair { host, broker, .. } = &Pair::start().await;
    let id = host.next_id();
    host.announce_at("udp", id, "/tmp/x".as_ref()).await;
    let refused = broker.dial(id).await;
    assert!(
        matches!(refused, Err(BrokerError::UnsupportedNetwork { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_service_that_is_never_announced_is_given_up_after_five_seconds() {
    let Pair { broker, .. } = &Pair::start().await;
    let dialled = timeout(PATIENCE, broker.dial(99)).await.unwrap();
    assert!(
        matches!(dialled, Err(BrokerError::NotAnnounced { service_id: 99 })),
        "{dialled:?}"
    );
}

#[tokio::test]
async fn a_plugin_says_whether_it_was_told_to_end_or_left_alone() {
    let told = Pair::start().await;
    told.host.shutdown().await;
    assert_eq!(told.plugin.await.unwrap().unwrap(), Ending::Shutdown);

    let Pair { host, plugin, .. } = Pair::start().await;
    drop(host);
    let left = timeout(PATIENCE, plugin).await;
    assert_eq!(left.unwrap().unwrap().unwrap(), Ending::HostGone);
}
