//! The built plugin as a separate process, started as a host starts it.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::identity::Identity;

/// The plugin's program with an empty environment and piped output. Killed when dropped.
pub(crate) fn program() -> Command {
    program_at(env!("CARGO_BIN_EXE_vault-plugin-secrets-openrouter").as_ref())
}

/// The same for any plugin's program.
pub(crate) fn program_at(path: &Path) -> Command {
    let mut command = Command::new(path);
    command
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.kill_on_drop(true);
    command
}

/// Sets the variables that go-plugin and Vault set.
pub(crate) fn set_environment(command: &mut Command, identity: &Identity, socket_dir: &Path) {
    command
        .env(
            "VAULT_BACKEND_PLUGIN",
            "6669da05-b1c8-4f49-97d9-c8e5bed98e20",
        )
        .env("VAULT_PLUGIN_AUTOMTLS_ENABLED", "true")
        .env("VAULT_PLUGIN_METADATA_MODE", "false")
        .env("PLUGIN_PROTOCOL_VERSIONS", "5")
        .env("PLUGIN_MIN_PORT", "10000")
        .env("PLUGIN_MAX_PORT", "25000")
        .env("PLUGIN_CLIENT_CERT", identity.pem())
        .env("TMPDIR", socket_dir);
}

/// A running plugin that has printed its handshake line. Killed when dropped.
pub(crate) struct PluginProcess {
    /// The handshake line.
    pub(crate) line: HandshakeLine,
    /// What it prints after the handshake line.
    pub(crate) stdout: Lines,
    /// What it logs.
    pub(crate) stderr: Lines,
    child: Child,
    socket_dir: TempDir,
}

impl PluginProcess {
    /// Starts the plugin for a host with this identity.
    pub(crate) async fn start(identity: &Identity) -> Self {
        Self::start_with(identity, |_| ()).await
    }

    /// Starts the plugin after `change` has changed its command.
    pub(crate) async fn start_with(identity: &Identity, change: impl FnOnce(&mut Command)) -> Self {
        Self::start_program(program(), identity, change).await
    }

    /// The same for any plugin's program.
    pub(crate) async fn start_program(
        mut command: Command,
        identity: &Identity,
        change: impl FnOnce(&mut Command),
    ) -> Self {
        let socket_dir = tempfile::tempdir().unwrap();
        set_environment(&mut command, identity, socket_dir.path());
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let mut stdout = Lines::of(child.stdout.take().unwrap());
        let stderr = Lines::of(child.stderr.take().unwrap());
        let line = stdout
            .next()
            .await
            .expect("the plugin ended without a handshake line");
        Self {
            line: HandshakeLine::parse(&line),
            stdout,
            stderr,
            child,
            socket_dir,
        }
    }

    /// The directory of the plugin's sockets; nothing else uses it.
    pub(crate) fn socket_dir(&self) -> &Path {
        self.socket_dir.path()
    }

    /// The process's id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().unwrap().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the process to exit on its own.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        let exit = timeout(PATIENCE, self.child.wait()).await;
        exit.expect("the plugin does not end").unwrap()
    }

    /// How many files and sockets are open.
    pub(crate) fn open_files(&self) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.id()));
        files.unwrap().count()
    }

    /// Its memory use so far.
    pub(crate) fn memory(&self) -> Memory {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kibibytes = line.unwrap().trim_matches([':', '\t', ' ', 'k', 'B']);
            kibibytes.parse::<u64>().unwrap() * 1_024
        };
        Memory {
            reserved: bytes("VmPeak"),
            used: bytes("VmHWM"),
        }
    }

    /// Kills the process and waits until it is gone.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }
}

/// The peak memory of a process, in bytes.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Reserved addresses, used or not.
    pub(crate) reserved: u64,
    /// Memory that was actually used.
    pub(crate) used: u64,
}

/// Whether a process exists and has not ended. It need not be a child.
pub(crate) fn lives(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // After the name, which is in parentheses. A dead process may be a zombie until its parent waits
    // for it.
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
    state.is_some_and(|state| !state.starts_with('Z'))
}

/// The lines that a process writes to one of its outputs.
pub(crate) struct Lines(mpsc::UnboundedReceiver<String>);

impl Lines {
    /// Reads lines until the end, so that the process never blocks on a full pipe.
    pub(crate) fn of(output: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let (read, lines) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut output = BufReader::new(output).lines();
            while let Ok(Some(line)) = output.next_line().await {
                // The pipe must be drained even if the test no longer reads.
                let _ = read.send(line);
            }
        });
        Self(lines)
    }

    /// The next line, or `None` at the end of the output.
    pub(crate) async fn next(&mut self) -> Option<String> {
        timeout(PATIENCE, self.0.recv())
            .await
            .expect("no line comes")
    }

    /// All lines up to the end of the output.
    pub(crate) async fn rest(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.next().await {
            lines.push(line);
        }
        lines
    }
}

/// A handshake line, parsed as strictly as in go-plugin.
#[derive(Debug)]
pub(crate) struct HandshakeLine {
    pub(crate) app_protocol: u32,
    pub(crate) socket: PathBuf,
    /// The plugin's certificate as DER; empty without TLS.
    pub(crate) certificate: Vec<u8>,
    /// The answer about a multiplexed broker, if there is one.
    pub(crate) multiplexed: Option<bool>,
}

impl HandshakeLine {
    pub(crate) fn parse(line: &str) -> Self {
        let fields: Vec<_> = line.split('|').collect();
        let (["1", app_protocol, "unix", socket, "grpc", certificate], rest) =
            fields.split_first_chunk().expect("six fields")
        else {
            panic!("not a handshake line: {line:?}");
        };
        Self {
            app_protocol: app_protocol.parse().unwrap(),
            socket: socket.into(),
            certificate: BASE64_STANDARD_NO_PAD.decode(certificate).unwrap(),
            multiplexed: rest.first().map(|answer| answer.parse().unwrap()),
        }
    }
}

/// The longest wait before a test fails. Only a broken plugin comes close.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
