//! The directory of one server (its plugin directory, home, log and storage), or of a program that talks to
//! one.
//!
//! Everything that a server or a plugin writes is below it, and is removed with the server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::program::{self, PLUGIN_NAME};

/// A server's files. Removed when dropped.
pub(crate) struct Directory {
    root: TempDir,
}

impl Directory {
    /// Makes the directory, with the plugin in its plugin directory.
    pub(crate) fn new() -> Self {
        let directory = Self::without_plugin();
        fs::create_dir(directory.path("plugins")).expect("a subdirectory can be made");
        directory.add_plugin(PLUGIN_NAME);
        directory
    }

    /// Makes the directory of a program that only talks to a server.
    pub(crate) fn without_plugin() -> Self {
        // Directly below /tmp: a unix socket's path may have 107 bytes, and the plugin's sockets are below
        // this directory.
        let root = tempfile::Builder::new()
            .prefix("accept-")
            .tempdir_in("/tmp")
            .expect("a directory can be made in /tmp");
        let directory = Self { root };
        for name in ["tmp", "home"] {
            fs::create_dir(directory.path(name)).expect("a subdirectory can be made");
        }
        directory
    }

    /// The path of a file or directory in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The server's log.
    pub(crate) fn log(&self) -> PathBuf {
        self.path("server.log")
    }

    /// Copies the plugin's executable into the plugin directory under `name`.
    pub(crate) fn add_plugin(&self, name: &str) {
        self.add_executable(program::plugin(), name);
    }

    /// Copies any plugin's executable there.
    pub(crate) fn add_executable(&self, executable: &Path, name: &str) {
        let to = self.path("plugins").join(name);
        // An existing file may be another version.
        let _ = fs::remove_file(&to);
        // Copies the file only if it cannot be linked: the binary is large, and there are many servers.
        fs::hard_link(executable, &to)
            .or_else(|_| fs::copy(executable, &to).map(drop))
            .expect("the plugin can be put into the plugin directory");
    }

    /// Installs another version of the plugin's executable as an upgrade does: a new file replaces the old
    /// one, which may be running.
    pub(crate) fn replace_plugin(&self, name: &str, version: &str) {
        let to = self.path("plugins").join(name);
        let new = to.with_extension("new");
        fs::write(&new, program::of_version(version)).expect("a file");
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&new, executable).expect("the file's owner may do so");
        fs::rename(new, to).expect("a file can take another one's place");
    }

    /// A command with an environment that contains only this directory, so that the developer's settings for
    /// Vault, proxies or OpenRouter do not reach the server, its plugin or its CLI.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .current_dir(self.root.path());
        command
    }
}
