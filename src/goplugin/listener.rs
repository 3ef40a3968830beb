//! The socket that the host connects to, and the connections accepted on it.
//!
//! Called by `serve`. Every connection passes through the [`Door`], which admits only the host.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixSocket};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::door::Door;
use super::error::ServeError;
use super::host_watch::HostWatch;
use super::tls::Tls;
use super::transport::ByteStream;

/// A listening unix socket. Its file is removed on drop.
#[derive(Debug)]
pub(super) struct Listener {
    socket: Arc<UnixListener>,
    path: SocketPath,
}

impl Listener {
    /// Listens on a new socket in `dir`. Only its owner can open it, and also `group`, if given by name
    /// or number.
    pub(super) fn bind(dir: &Path, group: Option<&str>) -> Result<Self, ServeError> {
        let path = SocketPath::new(dir)?;
        let socket = listen(&path.0, group).map_err(|source| ServeError::Socket {
            path: path.0.clone(),
            source,
        })?;
        Ok(Self {
            socket: Arc::new(socket),
            path,
        })
    }

    /// The address of the socket in the form of the handshake line.
    pub(super) fn address(&self) -> Result<&str, ServeError> {
        let SocketPath(path) = &self.path;
        // The line's fields are separated by pipes, which cannot be escaped.
        path.to_str()
            .filter(|text| !text.contains(['|', '\n']))
            .ok_or_else(|| ServeError::SocketName { path: path.clone() })
    }

    /// Accepts connections until `stop` is cancelled.
    pub(super) fn connections(
        &self,
        tls: Option<Tls>,
        watch: HostWatch,
        stop: CancellationToken,
    ) -> ReceiverStream<io::Result<ByteStream>> {
        let (let_in, connections) = mpsc::channel(1);
        let door = Arc::new(Door::new(tls, watch, let_in));
        let socket = Arc::clone(&self.socket);
        tokio::spawn(async move {
            stop.run_until_cancelled(accept(&socket, &door)).await;
        });
        ReceiverStream::new(connections)
    }
}

/// The name of a socket in the file system. Removed on drop.
#[derive(Debug)]
struct SocketPath(PathBuf);

impl SocketPath {
    /// A new name in `dir`. It is short because a socket's path is limited to 107 bytes.
    fn new(dir: &Path) -> Result<Self, ServeError> {
        let random = getrandom::u64().map_err(|error| ServeError::Socket {
            path: dir.into(),
            source: io::Error::other(error.to_string()),
        })?;
        Ok(Self(dir.join(format!("plugin{random:016x}"))))
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        // Best effort: the directory may already be gone, and nothing could handle the error.
        let _ = fs::remove_file(&self.0);
    }
}

/// Binds and listens. Permissions are set in between: nobody can connect before it listens.
fn listen(path: &Path, group: Option<&str>) -> io::Result<UnixListener> {
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    match group {
        None => fs::set_permissions(path, Permissions::from_mode(0o600))?,
        Some(group) => {
            chown(path, None, Some(group_id(group)?))?;
            fs::set_permissions(path, Permissions::from_mode(0o660))?;
        }
    }
    socket.listen(BACKLOG)
}

/// The id of a group given by number or by name.
fn group_id(group: &str) -> io::Result<u32> {
    if let Ok(id) = group.parse() {
        return Ok(id);
    }
    find_group(&fs::read_to_string(GROUP_FILE)?, group).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("no group {group:?} in {GROUP_FILE}"),
        )
    })
}

/// Finds a group's id in the text of a group file: lines of `name:password:id:members`.
fn find_group(file: &str, name: &str) -> Option<u32> {
    file.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}

/// Accepts connections forever.
async fn accept(socket: &UnixListener, door: &Arc<Door>) {
    loop {
        match socket.accept().await {
            Ok((stream, _)) => door.knock(stream),
            Err(error) => {
                // Most likely out of file descriptors: other connections have to close first.
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// If the queue is full, a host's attempt to connect fails at once, so the queue must hold a burst of
/// other clients.
const BACKLOG: u32 = 1_024;

const GROUP_FILE: &str = "/etc/group";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_its_owners_alone_and_goes_with_the_listener() {
        let dir = tempfile::tempdir().unwrap();
        let listener = Listener::bind(dir.path(), None).unwrap();
        let path = PathBuf::from(listener.address().unwrap());
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_group_may_open_the_socket_when_the_host_names_one() {
        let dir = tempfile::tempdir().unwrap();
        let own_group = rustix::process::getgid().as_raw().to_string();
        let listener = Listener::bind(dir.path(), Some(&own_group)).unwrap();
        let mode = fs::metadata(listener.address().unwrap())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o660);
    }

    #[tokio::test]
    async fn an_unknown_group_is_an_error_that_names_it_and_leaves_no_socket() {
        let dir = tempfile::tempdir().unwrap();
        let error = Listener::bind(dir.path(), Some("no such group")).unwrap_err();
        let ServeError::Socket { source, .. } = error else {
            panic!("{error:?}")
        };
        assert!(source.to_string().contains("no such group"), "{source}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_directory_that_the_handshake_line_cannot_name_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("a|b");
        fs::create_dir(&dir).unwrap();
        let error = Listener::bind(&dir, None)
            .unwrap()
            .address()
            .unwrap_err()
            .to_string();
        assert!(error.contains("a|b"), "{error}");
    }

    #[test]
    fn groups_are_found_by_whole_name() {
        let file = "root:x:0:\nplugins:x:1234:vault,me\nbroken\n:x:5:\n";
        assert_eq!(find_group(file, "plugins"), Some(1234));
        assert_eq!(find_group(file, "plugin"), None);
        assert_eq!(find_group(file, "broken"), None);
    }
}
