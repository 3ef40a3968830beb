//! How the plugin's process lives and ends, and what it leaves behind.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::time::timeout;
use tonic_health::pb::health_check_response::ServingStatus;

use self::support::host::{Host, health};
use self::support::identity::Identity;
use self::support::process::{HandshakeLine, Lines, PATIENCE, program, set_environment};

mod support;

fn is_empty(dir: &Path) -> bool {
    dir.read_dir().unwrap().next().is_none()
}

#[tokio::test]
async fn it_is_healthy_under_the_name_that_hosts_ask_for() {
    let (_plugin, host) = Host::start().await;
    assert_eq!(host.ping().await, ServingStatus::Serving);
    let other = health(host.channel(), "another").await.unwrap_err();
    assert_eq!(other.code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn told_to_end_it_answers_and_is_gone_although_its_host_stays_connected() {
    let (mut plugin, host) = Host::start().await;
    assert!(!is_empty(plugin.socket_dir()));
    host.shutdown().await;
    // A host kills it after two seconds. How long it takes here depends on the machine.
    let exit = plugin.exit().await;
    assert_eq!(exit.code(), Some(0));
    assert!(is_empty(plugin.socket_dir()));
    drop(host);
}

#[tokio::test]
async fn the_streams_of_broker_and_stdio_stay_open_and_end_with_the_plugin() {
    let (_plugin, host) = Host::start().await;
    host.ping().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!host.broker_stream.is_finished());
    assert!(!host.stdio_stream.is_finished());

    host.shutdown().await;
    let Host {
        broker_stream,
        stdio_stream,
        ..
    } = host;
    timeout(PATIENCE, broker_stream).await.unwrap().unwrap();
    let messages = timeout(PATIENCE, stdio_stream).await.unwrap().unwrap();
    assert_eq!(messages, 0);
}

#[tokio::test]
async fn it_ends_by_itself_when_its_host_closes_the_connection_without_a_word() {
    let (mut plugin, host) = Host::start().await;
    host.ping().await;
    drop(host);
    assert_eq!(plugin.exit().await.code(), Some(0));
    assert!(is_empty(plugin.socket_dir()));
}

#[tokio::test]
async fn it_ends_by_itself_when_its_parent_dies_before_it_has_connected() {
    let socket_dir = TempDir::new().unwrap();
    // A shell takes the place of the host, so that there is a parent to be killed.
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "\"$0\" & wait"])
        .arg(program().as_std().get_program());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    set_environment(&mut command, &Identity::new(), socket_dir.path());
    let mut shell = command.spawn().unwrap();
    let mut stdout = Lines::of(shell.stdout.take().unwrap());
    HandshakeLine::parse(&stdout.next().await.unwrap());

    shell.kill().await.unwrap();
    // The plugin holds the other end of the pipe until it exits.
    assert_eq!(stdout.next().await, None);
    assert!(is_empty(socket_dir.path()));
}

#[tokio::test]
async fn an_interrupt_from_the_hosts_terminal_is_ignored() {
    let (mut plugin, host) = Host::start().await;
    for _ in 0..3 {
        plugin.signal(Signal::INT);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(host.ping().await, ServingStatus::Serving);
    }
    host.shutdown().await;
    assert_eq!(plugin.exit().await.code(), Some(0));
}

#[tokio::test]
async fn stdout_carries_the_handshake_line_and_nothing_else() {
    let (mut plugin, host) = Host::start().await;
    host.ping().await;
    host.shutdown().await;
    plugin.exit().await;
    assert_eq!(plugin.stdout.rest().await, Vec::<String>::new());
}

#[tokio::test]
async fn stderr_carries_hclog_lines_and_nothing_else() {
    let (mut plugin, host) = Host::start().await;
    // Causes an error message.
    let mut stranger = UnixStream::connect(&plugin.line.socket).await.unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let complaint = plugin.stderr.next().await.unwrap();
    host.shutdown().await;
    plugin.exit().await;

    let mut lines = plugin.stderr.rest().await;
    lines.push(complaint);
    for line in &lines {
        let line: Value = serde_json::from_str(line).unwrap();
        for key in ["@level", "@message", "@module", "@timestamp"] {
            assert!(line[key].is_string(), "{key}: {line}");
        }
        let time = line["@timestamp"].as_str().unwrap();
        assert_eq!(time.len(), "2026-01-02T03:04:05.000006Z".len(), "{time}");
        assert!(
            line["@module"].as_str().unwrap().starts_with("openrouter"),
            "{line}"
        );
    }
    assert!(
        lines
            .iter()
            .any(|line| line.contains("refused a connection")),
        "{lines:?}"
    );
}
