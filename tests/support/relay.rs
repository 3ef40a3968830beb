//! Counts the plugin's connections to a listener of the host.
//!
//! Here a connection ends only if the plugin closes it. At the listener itself, an orderly close by the
//! server looks the same as one by the plugin.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// A listener that forwards connections and counts them. They end when this is dropped.
pub(crate) struct Relay {
    dir: TempDir,
    connections: watch::Receiver<usize>,
    // Held for its Drop.
    task: AbortOnDropHandle<()>,
}

impl Relay {
    /// Forwards to the listener at `target`.
    pub(crate) fn to(target: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
        let (count, connections) = watch::channel(0);
        let task = tokio::spawn(relay(listener, target.to_owned(), count));
        Self {
            dir,
            connections,
            task: AbortOnDropHandle::new(task),
        }
    }

    /// The path of its own socket.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join(SOCKET)
    }

    /// How many connections are open.
    pub(crate) fn connections(&self) -> usize {
        *self.connections.borrow()
    }

    /// Waits until no connection is open.
    pub(crate) async fn closed(&self) {
        let mut connections = self.connections.clone();
        connections.wait_for(|open| *open == 0).await.unwrap();
    }
}

async fn relay(listener: UnixListener, target: PathBuf, count: watch::Sender<usize>) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (mut near, _) = accepted.unwrap();
                let target = target.clone();
                open.spawn(async move {
                    let mut far = UnixStream::connect(target).await?;
                    copy_bidirectional(&mut near, &mut far).await
                });
            }
            Some(_) = open.join_next() => {}
        }
        count.send_replace(open.len());
    }
}

const SOCKET: &str = "relay";
