//! The server's own command line, as an operator uses it.

use std::process::Output;

use super::client::Client;
use super::directory::Directory;
use super::program;

/// What a command printed, and whether it succeeded.
pub(crate) struct CliOutput {
    command: String,
    output: Output,
}

impl CliOutput {
    /// Runs `vault <arguments>` as the client's token, with nothing else in its environment.
    pub(crate) async fn of(directory: &Directory, client: &Client, arguments: &[&str]) -> Self {
        let mut command = directory.command(program::server());
        command
            .args(arguments)
            .env("VAULT_ADDR", client.address())
            .env("VAULT_TOKEN", client.token());
        let output = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .output()
            .await;
        let output = output.expect("the server's executable can be started");
        Self {
            command: arguments.join(" "),
            output,
        }
    }

    /// Asserts success and returns what was printed, without the last line's end.
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
