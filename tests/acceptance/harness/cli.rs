//! The server's own command line, as an operator uses it.

use std::path::Path;
use std::process::{Command, Output};

use super::client::Client;
use super::directory::Directory;
use super::program;

/// What a command printed, and whether it succeeded.
pub(crate) struct CliOutput {
    command: String,
    output: Output,
}

impl CliOutput {
    /// Runs `vault <arguments>` with the client's token, in an otherwise empty environment.
    pub(crate) async fn of(directory: &Directory, client: &Client, arguments: &[&str]) -> Self {
        let mut command = directory.command(program::server());
        command.args(arguments);
        Self {
            command: arguments.join(" "),
            output: run(command, client).await,
        }
    }

    /// Asserts success and returns the output without the last line end.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        let said = String::from_utf8_lossy(&self.output.stderr);
        assert!(
            self.output.status.success(),
            "`{}` failed: {said}",
            self.command
        );
        String::from_utf8_lossy(&self.output.stdout)
            .trim_end()
            .to_owned()
    }
}

/// Runs a program that calls `vault`, as the client.
pub(crate) async fn output_of(calling: &Path, arguments: &[&str], client: &Client) -> Output {
    output_in(&Directory::without_plugin(), calling, arguments, client).await
}

/// The same in a directory that already contains files. It can be used only once.
pub(crate) async fn output_in(
    directory: &Directory,
    calling: &Path,
    arguments: &[&str],
    client: &Client,
) -> Output {
    let folder = directory.path("bin");
    std::fs::create_dir(&folder).expect("a directory");
    // Under the name that it is called by, whichever server is tested.
    std::os::unix::fs::symlink(program::server(), folder.join("vault")).expect("a link");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = directory.command(calling);
    command
        .args(arguments)
        .env("PATH", format!("{}:{path}", folder.display()));
    run(command, client).await
}

async fn run(mut command: Command, client: &Client) -> Output {
    command
        .env("VAULT_ADDR", client.address())
        .env("VAULT_TOKEN", client.token());
    let output = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .output()
        .await;
    output.expect("the program can be started")
}
