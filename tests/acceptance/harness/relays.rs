//! Relays between the nodes of a cluster. They can make a node deaf: it still reaches the others through its
//! open connections, but their answers are held back. The others then store what it sends without its
//! knowledge.
//!
//! Each node advertises the address of its relay. Any node may dial it, so the relay finds out which process
//! has.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::OnceLock;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::cluster::NODES;

/// A relay in front of each node of a cluster. Their connections end when this is dropped.
pub(crate) struct Relays {
    relays: Vec<Relay>,
    deaf: watch::Sender<Option<Deaf>>,
}

struct Relay {
    address: SocketAddr,
    /// Where the node listens, once that is known.
    target: watch::Sender<Option<SocketAddr>>,
    // Held for its Drop.
    _task: AbortOnDropHandle<()>,
}

/// The node that is deaf.
#[derive(Clone, Copy)]
struct Deaf {
    node: usize,
    process: u32,
}

impl Relays {
    /// Starts the relays. Connections wait until their targets are known.
    pub(crate) async fn new() -> Self {
        let (deaf, hears) = watch::channel(None);
        let mut relays = Vec::new();
        for node in 0..NODES {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
            let listener = listener.expect("a free port");
            let address = listener.local_addr().expect("a listener's address");
            let (target, leads_to) = watch::channel(None);
            let task = tokio::spawn(relay(listener, node, leads_to, hears.clone()));
            relays.push(Relay {
                address,
                target,
                _task: AbortOnDropHandle::new(task),
            });
        }
        Self { relays, deaf }
    }

    /// The address that a node advertises.
    pub(super) fn address(&self, node: usize) -> SocketAddr {
        self.relays[node].address
    }

    /// Sets where a node listens.
    pub(super) fn lead_to(&self, node: usize, target: SocketAddr) {
        self.relays[node].target.send_replace(Some(target));
    }

    /// From now on nothing reaches this node, whose server is this process, until [`Relays::hear`].
    /// Connections to it are cut. New ones from it are refused, since a server that waits for a handshake
    /// accepts no other connection. For one node, once.
    pub(crate) fn deafen(&self, node: usize, process: u32) {
        self.deaf.send_replace(Some(Deaf { node, process }));
    }

    /// Delivers what was held back, and everything that follows.
    pub(crate) fn hear(&self) {
        self.deaf.send_replace(None);
    }
}

async fn relay(
    listener: TcpListener,
    node: usize,
    mut target: watch::Receiver<Option<SocketAddr>>,
    deaf: watch::Receiver<Option<Deaf>>,
) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (near, _) = accepted.expect("a connection");
                let Ok(target) = target.wait_for(Option::is_some).await.map(|target| *target) else {
                    return;
                };
                let target = target.expect("it was waited for");
                open.spawn(forward(near, node, target, deaf.clone()));
            }
            // A connection may end with an error: the nodes close some of them abruptly.
            Some(_) = open.join_next() => {}
        }
    }
}

async fn forward(
    near: TcpStream,
    node: usize,
    target: SocketAddr,
    mut deaf: watch::Receiver<Option<Deaf>>,
) -> io::Result<()> {
    let ports = (near.peer_addr()?.port(), near.local_addr()?.port());
    // The system's list of connections can be long, so it is read once.
    let dialed = OnceLock::new();
    let is_dialer = |deaf: Deaf| *dialed.get_or_init(|| has_dialed(deaf.process, ports));
    let now = *deaf.borrow();
    if now.is_some_and(|deaf| deaf.node == node || is_dialer(deaf)) {
        return Ok(());
    }
    let far = TcpStream::connect(target).await?;
    for stream in [&near, &far] {
        stream.set_nodelay(true)?;
    }
    let (mut from_dialer, to_dialer) = near.into_split();
    let (from_node, mut to_node) = far.into_split();
    let there = async {
        tokio::io::copy(&mut from_dialer, &mut to_node).await?;
        to_node.shutdown().await
    };
    let back = copy_unless_held(from_node, to_dialer, deaf.clone(), &is_dialer);
    let is_cut = deaf.wait_for(|deaf| deaf.is_some_and(|deaf| deaf.node == node));
    tokio::select! {
        copied = async { tokio::try_join!(there, back) } => copied.map(|((), ())| ()),
        _ = is_cut => Ok(()),
    }
}

/// Copies one direction of a connection, also its end, except while `is_held`.
async fn copy_unless_held(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut deaf: watch::Receiver<Option<Deaf>>,
    is_held: impl Fn(Deaf) -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        let open = deaf.wait_for(|deaf| !deaf.is_some_and(&is_held));
        // Otherwise the relays are gone.
        if open.await.is_err() {
            return Ok(());
        }
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
    }
}

/// Whether this process has the end of a connection with the first of these ports, whose other end has the
/// second one; both on the IPv4 loopback interface.
fn has_dialed(process: u32, (own, other): (u16, u16)) -> bool {
    let table = fs::read_to_string("/proc/self/net/tcp").expect("the list of connections");
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
    let socket = table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let ports = (port(fields.get(1)?), port(fields.get(2)?));
        (ports == (Some(own), Some(other))).then(|| format!("socket:[{}]", fields[9]))
    });
    let is_open = |socket: String| {
        // A process that has ended has no open files.
        let handles = fs::read_dir(format!("/proc/{process}/fd")).into_iter();
        let mut targets = handles
            .flatten()
            .filter_map(|handle| fs::read_link(handle.ok()?.path()).ok());
        targets.any(|target| target.as_os_str() == &*socket)
    };
    socket.is_some_and(is_open)
}
