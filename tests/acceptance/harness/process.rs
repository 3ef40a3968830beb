//! A running server process: started, watched, and ended by its id, together with its plugin processes.
//!
//! A server never outlives its test: dropping it ends the process, and if the test process is killed, a small
//! guard process ends it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A server process. Ended when dropped. If the test is failing, the end of its log is printed.
pub(crate) struct ServerProcess {
    child: Child,
    guard: Child,
    log: PathBuf,
    /// Where its part of the log begins, in bytes: a restarted server appends to it.
    log_start: u64,
}

impl ServerProcess {
    /// Starts the command and appends its output to the log.
    pub(crate) fn start(mut command: Command, log: &Path) -> Self {
        // Through a pipe: the server syncs its stderr before it handles the end of a plugin, which can take
        // long for a file.
        let (mut output, server_side) = io::pipe().expect("a pipe");
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("a log file");
        let log_start = file.metadata().expect("the log's length").len();
        let child = command
            .stdin(Stdio::null())
            .stdout(
                server_side
                    .try_clone()
                    .expect("a second handle of the pipe"),
            )
            .stderr(server_side)
            .spawn()
            .expect("the server's executable can be started");
        // Drops our handles of the pipe with the command, so that the copying ends with the server.
        drop(command);
        thread::spawn(move || io::copy(&mut output, &mut file));
        let guard = guard(child.id());
        Self {
            child,
            guard,
            log: log.to_owned(),
            log_start,
        }
    }

    /// The server's own process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its running plugin processes.
    pub(crate) fn plugins(&self) -> Vec<PluginProcess> {
        PluginProcess::under(self.child.id())
    }

    /// Whether it has logged that it listens. An answer alone does not prove that: it may come from another
    /// server that took the port first.
    pub(crate) fn listens(&self) -> bool {
        let text = fs::read(&self.log).unwrap_or_default();
        let start = usize::try_from(self.log_start).expect("a length in memory");
        let own = text.get(start..).unwrap_or_default();
        String::from_utf8_lossy(own).contains(" started!")
    }

    /// The last lines of its output.
    pub(crate) fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines
            .split_at(lines.len().saturating_sub(LOG_LINES))
            .1
            .join("\n")
    }

    /// Whether the process has ended on its own.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("a child can be waited for")
            .is_some()
    }

    /// Ends the server with SIGKILL, without waiting for its plugins.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// Ends the server with SIGTERM, or SIGKILL if that has no effect, and makes sure that none of its
    /// plugins is left. Returns the plugins that had to be killed because they outlived it.
    pub(crate) fn stop(&mut self) -> Vec<PluginProcess> {
        let plugins = self.plugins();
        if !self.has_ended() {
            signal(self.child.id(), Signal::TERM);
            if !within(STOP_TIME, || self.has_ended()) {
                signal(self.child.id(), Signal::KILL);
            }
            self.child.wait().expect("a child can be waited for");
        }
        self.guard
            .kill()
            .and_then(|()| self.guard.wait())
            .expect("the guard can be ended");
        let outliving: Vec<_> = plugins
            .into_iter()
            .filter(|plugin| !within(PLUGIN_TIME, || plugin.has_ended()))
            .collect();
        for plugin in &outliving {
            plugin.kill();
        }
        outliving
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "--- the end of {}:\n{}",
                self.log.display(),
                self.log_tail()
            );
        }
        self.stop();
    }
}

/// A plugin process under a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PluginProcess {
    pid: u32,
    /// In clock ticks since boot. Together with the id it identifies a process permanently, even if the id is
    /// reused.
    started: u64,
}

impl PluginProcess {
    /// The live child processes of a server. A server starts only plugins.
    pub(crate) fn under(server: u32) -> Vec<Self> {
        let processes = fs::read_dir("/proc").expect("/proc can be listed");
        let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let stats = pids.filter_map(|pid: u32| Some((pid, Stat::of(pid)?)));
        stats
            .filter(|(_, stat)| stat.parent == server)
            .map(|(pid, stat)| Self {
                pid,
                started: stat.started,
            })
            .collect()
    }

    /// The content of a file below `/proc/<pid>`.
    pub(crate) fn file(&self, name: &str) -> Vec<u8> {
        fs::read(format!("/proc/{}/{name}", self.pid)).expect("a file of a living process")
    }

    /// The process's writable memory, without pages that were never written.
    pub(crate) fn memory(&self) -> Vec<u8> {
        let memory = File::open(format!("/proc/{}/mem", self.pid)).expect("a descendant's memory");
        let maps = String::from_utf8(self.file("maps")).expect("a list of mappings");
        let writable = maps.lines().filter(|line| line.contains(" rw"));
        let ranges = writable.filter_map(|line| {
            let (from, to) = line.split(' ').next()?.split_once('-')?;
            let address = |text| u64::from_str_radix(text, 16).ok();
            Some((address(from)?, address(to)?))
        });
        let mut written = Vec::new();
        for (from, to) in ranges {
            let mut content = vec![0; usize::try_from(to - from).expect("a length")];
            // It may just have been unmapped.
            let _ = memory.read_exact_at(&mut content, from);
            let pages = content.chunks(PAGE).filter(|page| *page != [0; PAGE]);
            written.extend(pages.flatten());
        }
        written
    }

    /// The targets of the process's open files.
    pub(crate) fn open_files(&self) -> Vec<PathBuf> {
        let handles = fs::read_dir(format!("/proc/{}/fd", self.pid)).expect("a living process");
        let targets = handles.filter_map(|handle| fs::read_link(handle.ok()?.path()).ok());
        targets.collect()
    }

    /// The process's id.
    #[allow(dead_code, reason = "for benches/side_by_side")]
    pub(crate) fn id(&self) -> u32 {
        self.pid
    }

    /// Kills the process with SIGKILL, as in a crash.
    pub(crate) fn kill(&self) {
        if !self.has_ended() {
            signal(self.pid, Signal::KILL);
        }
    }

    /// Whether it is gone.
    pub(crate) fn has_ended(&self) -> bool {
        Stat::of(self.pid).is_none_or(|stat| stat.started != self.started)
    }
}

/// The content of `/proc/<pid>/stat` for a process that is not a zombie.
struct Stat {
    parent: u32,
    started: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the program's name in parentheses and may contain anything.
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let (state, parent, started) = (fields.first()?, fields.get(1)?, fields.get(19)?);
        (*state != "Z").then_some(())?;
        Some(Self {
            parent: parent.parse().ok()?,
            started: started.parse().ok()?,
        })
    }
}

/// A process that ends the server if the test process dies without doing so: the guard's standard input is a
/// pipe whose other end only the test process holds.
fn guard(server: u32) -> Child {
    Command::new("sh")
        .args([
            "-c",
            "read -r _; kill -TERM \"$1\"",
            "guard",
            &server.to_string(),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh can be started")
}

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process id");
    // It may have ended at this very moment; then there is nothing left to do.
    let _ = kill_process(pid, signal);
}

fn within(time: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + time;
    while !done() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

/// In bytes.
const PAGE: usize = 4096;

/// How much of the log a failing test prints.
const LOG_LINES: usize = 40;

/// How long a server may take to shut down before it is killed.
const STOP_TIME: Duration = Duration::from_secs(30);

/// How long a plugin may take to notice that its server is gone, on a busy machine. A plugin that does not
/// notice stays forever.
const PLUGIN_TIME: Duration = Duration::from_secs(60);
