//! Other clients at the socket: silent ones, slow ones, and a thousand at once.
//!
//! Any process that may open the socket gets as far as the handshake. None of them may cost the plugin more
//! than a fixed amount, delay the host, or keep the process alive.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy, duplex, split};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use tonic_health::pb::health_check_response::ServingStatus;

use self::support::host::{Host, tls_stream};
use self::support::identity::Identity;
use self::support::process::{PATIENCE, PluginProcess};

mod support;

/// Opens a connection, and retries while the queue of the socket is full.
async fn connect(socket: &Path) -> UnixStream {
    loop {
        match UnixStream::connect(socket).await {
            Err(error) if error.kind() == ErrorKind::WouldBlock => tokio::task::yield_now().await,
            connected => return connected.unwrap(),
        }
    }
}

/// Opens this many connections, and sends only this much on each.
async fn crowd(count: usize, first_word: &[u8], socket: &Path) -> Vec<UnixStream> {
    let mut crowd = Vec::new();
    for _ in 0..count {
        let mut stranger = connect(socket).await;
        // Fails if the plugin has already closed the connection.
        let _ = stranger.write_all(first_word).await;
        crowd.push(stranger);
    }
    crowd
}

/// Waits until the plugin has closed the connection.
async fn is_thrown_out(stream: &mut UnixStream) {
    let end = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
    // If some of our bytes were not read, it is a reset.
    assert!(end.is_ok(), "it may stay for ever");
}

/// A thousand clients send only this much, while the host continues its work.
async fn a_thousand_cost_a_fixed_amount_and_hold_up_nobody(first_word: &[u8]) {
    let identity = Identity::new();
    let plugin = PluginProcess::start(&identity).await;
    let (files, memory) = (plugin.open_files(), plugin.memory());
    // After ten seconds all are disconnected. If the machine was busy for that long, the test tries again; a
    // host that has to wait for these clients fails each time.
    let mut attempts = 0;
    let _host = loop {
        attempts += 1;
        assert!(attempts <= 5, "they are gone before the host is let in");
        let mut strangers = crowd(1_000, first_word, &plugin.line.socket).await;
        // The first clients have lost their slots to later ones.
        is_thrown_out(strangers.first_mut().unwrap()).await;
        let start = Instant::now();
        while plugin.open_files() > files + 64 + A_FEW {
            assert!(start.elapsed() < PATIENCE, "they stay");
            sleep(Duration::from_millis(10)).await;
        }
        let host = Host::connect(identity.copy(), &plugin.line);
        let host = timeout(PATIENCE, host).await.unwrap();
        assert_eq!(host.ping().await, ServingStatus::Serving);
        if plugin.open_files() > files + A_FEW {
            break host;
        }
    };
    let taken = plugin.memory().used - memory.used;
    assert!(taken < 16 * MEBIBYTE, "{taken} bytes");
}

#[tokio::test]
async fn a_thousand_silent_ones_cost_a_fixed_amount_and_hold_up_nobody() {
    a_thousand_cost_a_fixed_amount_and_hold_up_nobody(&[]).await;
}

#[tokio::test]
async fn a_thousand_that_begin_a_handshake_cost_a_fixed_amount_and_hold_up_nobody() {
    a_thousand_cost_a_fixed_amount_and_hold_up_nobody(&BEGINNING_OF_A_RECORD).await;
}

#[tokio::test]
async fn silent_and_slow_ones_are_thrown_out_after_ten_seconds() {
    let plugin = PluginProcess::start(&Identity::new()).await;
    let mut silent = connect(&plugin.line.socket).await;
    let mut slow = connect(&plugin.line.socket).await;
    slow.write_all(&BEGINNING_OF_A_RECORD).await.unwrap();
    tokio::join!(is_thrown_out(&mut silent), is_thrown_out(&mut slow));
}

#[tokio::test]
async fn a_handshake_under_way_is_not_disturbed_by_any_number_of_silent_ones() {
    let identity = Identity::new();
    let plugin = PluginProcess::start(&identity).await;
    let slow = SlowClient::begin(&identity, &plugin).await;
    // A later handshake that is complete: by now the slow client was read.
    let client = identity.client(&plugin.line.certificate);
    let other = tls_stream(&plugin.line.socket, client).await.unwrap();
    let _silent = crowd(200, &[], &plugin.line.socket).await;
    assert!(slow.go_on().await.is_ok());
    drop(other);
}

#[tokio::test]
async fn strangers_do_not_keep_the_plugin_alive_when_its_host_has_gone() {
    let (mut plugin, host) = Host::start().await;
    host.ping().await;
    let _silent = crowd(10, &[], &plugin.line.socket).await;
    drop(host);
    assert_eq!(plugin.exit().await.code(), Some(0));
    assert_eq!(plugin.socket_dir().read_dir().unwrap().count(), 0);
}

#[tokio::test]
async fn strangers_that_come_again_and_again_do_not_fill_the_log() {
    let (mut plugin, host) = Host::start().await;
    let start = Instant::now();
    for _ in 0..200 {
        let mut stranger = connect(&plugin.line.socket).await;
        stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        is_thrown_out(&mut stranger).await;
    }
    host.shutdown().await;
    plugin.exit().await;
    let seconds = start.elapsed().as_secs() + 1;
    let lines = plugin.stderr.rest().await;
    let said = lines.iter().filter(|line| line.contains("refused"));
    let said = u64::try_from(said.count()).unwrap();
    assert!((1..=seconds).contains(&said), "{said} in {seconds} seconds");
}

/// A host that sends the beginning of its handshake, pauses, and sends the rest byte by byte.
struct SlowClient {
    go_on: oneshot::Sender<()>,
    // The first byte of HTTP/2, which only admitted clients get.
    first_byte: AbortOnDropHandle<io::Result<u8>>,
    _pump: AbortOnDropHandle<()>,
}

impl SlowClient {
    /// Returns when the beginning was sent.
    async fn begin(identity: &Identity, plugin: &PluginProcess) -> Self {
        let tls = Arc::new(identity.client(&plugin.line.certificate));
        let (near, far) = duplex(64 * 1_024);
        let handshake = async move {
            let name = "localhost".try_into().unwrap();
            let stream = TlsConnector::from(tls).connect(name, near).await;
            stream?.read_u8().await
        };
        let (go_on, gone_on) = oneshot::channel();
        let (begin, begun) = oneshot::channel();
        let stream = connect(&plugin.line.socket).await;
        let pump = async move {
            let (mut client, mut to_client) = split(far);
            let (mut plugin, mut to_plugin) = stream.into_split();
            let up = async {
                let mut beginning = [0; 10];
                client.read_exact(&mut beginning).await?;
                to_plugin.write_all(&beginning).await?;
                let _ = begin.send(());
                let _ = gone_on.await;
                loop {
                    to_plugin.write_u8(client.read_u8().await?).await?;
                }
            };
            let down = copy(&mut plugin, &mut to_client);
            // Each ends when one side has hung up, and the other ends with it.
            tokio::select! {
                ended = up => drop::<io::Result<()>>(ended),
                _ = down => {}
            }
        };
        let client = Self {
            go_on,
            first_byte: AbortOnDropHandle::new(tokio::spawn(handshake)),
            _pump: AbortOnDropHandle::new(tokio::spawn(pump)),
        };
        begun.await.unwrap();
        client
    }

    /// Sends the rest, and waits for admission.
    async fn go_on(self) -> io::Result<u8> {
        self.go_on.send(()).unwrap();
        timeout(PATIENCE, self.first_byte).await.unwrap().unwrap()
    }
}

/// The host's connection, and connections that are being opened or closed.
const A_FEW: usize = 10;

/// The first bytes of a TLS handshake.
const BEGINNING_OF_A_RECORD: [u8; 3] = [22, 3, 1];

const MEBIBYTE: u64 = 1_024 * 1_024;
