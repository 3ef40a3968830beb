//! How the plugin's process starts: what it requires of its environment and what it prints.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::time::timeout;
use tonic::transport::{Endpoint, Uri};
use tonic_health::pb::health_check_response::ServingStatus;
use tower::service_fn;

use self::support::host::{Host, health};
use self::support::identity::Identity;
use self::support::process::{PATIENCE, PluginProcess, program, set_environment};

mod support;

/// Runs the program until it exits.
async fn output(change: impl FnOnce(&mut Command)) -> Output {
    let mut command = program();
    change(&mut command);
    timeout(PATIENCE, command.output()).await.unwrap().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn the_line_names_protocol_five_a_private_socket_and_a_certificate() {
    let plugin = PluginProcess::start(&Identity::new()).await;
    assert_eq!(plugin.line.app_protocol, 5);
    assert_eq!(plugin.line.socket.parent(), Some(plugin.socket_dir()));
    let mode = plugin.line.socket.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // DER: a sequence with a two-byte length.
    assert_eq!(plugin.line.certificate[..2], [0x30, 0x82]);
    assert_eq!(plugin.line.multiplexed, None);
}

#[tokio::test]
async fn the_socket_already_accepts_when_the_line_is_printed() {
    let plugin = PluginProcess::start(&Identity::new()).await;
    std::os::unix::net::UnixStream::connect(&plugin.line.socket).unwrap();
}

#[tokio::test]
async fn a_host_that_names_a_directory_for_sockets_finds_the_socket_there() {
    let dir = tempfile::tempdir().unwrap();
    let plugin = PluginProcess::start_with(&Identity::new(), |command| {
        command.env("PLUGIN_UNIX_SOCKET_DIR", dir.path());
    })
    .await;
    assert_eq!(plugin.line.socket.parent(), Some(dir.path()));
}

#[tokio::test]
async fn a_host_that_asks_for_multiplexing_gets_a_seventh_field() {
    let plugin = PluginProcess::start_with(&Identity::new(), |command| {
        command.env("PLUGIN_MULTIPLEX_GRPC", "true");
    })
    .await;
    assert_eq!(plugin.line.multiplexed, Some(false));
}

#[tokio::test]
async fn a_host_that_does_not_offer_protocol_five_is_told_five_all_the_same() {
    let plugin = PluginProcess::start_with(&Identity::new(), |command| {
        command.env("PLUGIN_PROTOCOL_VERSIONS", "4,3");
    })
    .await;
    assert_eq!(plugin.line.app_protocol, 5);
}

#[tokio::test]
async fn unknown_arguments_are_ignored() {
    let identity = Identity::new();
    let process = PluginProcess::start_with(&identity, |command| {
        command.args([
            "-tls-skip-verify",
            "-ca-cert=/h/v",
            "--client-key",
            "x",
            "serve",
            "",
        ]);
    })
    .await;
    let host = Host::connect(identity, &process.line).await;
    assert_eq!(host.ping().await, ServingStatus::Serving);
}

#[tokio::test]
async fn started_by_hand_it_says_what_it_is_in_one_line_and_fails() {
    let by_hand = output(|_| ()).await;
    assert_eq!(by_hand.status.code(), Some(1));
    assert_eq!(text(&by_hand.stdout), "");
    let sentence = text(&by_hand.stderr);
    assert_eq!(sentence.lines().count(), 1, "{sentence}");
    for part in ["plugin", "vault plugin register", "vault secrets enable"] {
        assert!(sentence.contains(part), "{sentence}");
    }
}

#[tokio::test]
async fn a_wrong_cookie_counts_as_started_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = output(|command| {
        set_environment(command, &Identity::new(), dir.path());
        command.env(
            "VAULT_BACKEND_PLUGIN",
            "6669da05-b1c8-4f49-97d9-c8e5bed98e21",
        );
    })
    .await;
    assert_eq!(wrong.status.code(), Some(1));
    assert_eq!(text(&wrong.stdout), "");
    assert!(text(&wrong.stderr).contains("vault plugin register"));
}

#[tokio::test]
async fn without_a_host_certificate_it_refuses_and_names_the_variable() {
    let dir = tempfile::tempdir().unwrap();
    let refused = output(|command| {
        set_environment(command, &Identity::new(), dir.path());
        command.env_remove("PLUGIN_CLIENT_CERT");
    })
    .await;
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(text(&refused.stdout), "");
    assert!(text(&refused.stderr).contains("PLUGIN_CLIENT_CERT"));
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
}

#[tokio::test]
async fn a_host_certificate_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = output(|command| {
        set_environment(command, &Identity::new(), dir.path());
        command.env("PLUGIN_CLIENT_CERT", "certainly");
    })
    .await;
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(text(&refused.stdout), "");
    assert!(text(&refused.stderr).contains("PEM"));
}

#[tokio::test]
async fn a_directory_for_sockets_that_is_missing_is_named_in_the_log() {
    let refused = output(|command| {
        set_environment(command, &Identity::new(), "/nowhere/at/all".as_ref());
    })
    .await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("/nowhere/at/all"));
}

#[tokio::test]
async fn metadata_mode_is_served_without_tls() {
    let plugin = PluginProcess::start_with(&Identity::new(), |command| {
        command
            .env_remove("PLUGIN_CLIENT_CERT")
            .env("VAULT_PLUGIN_METADATA_MODE", "true");
    })
    .await;
    assert!(plugin.line.certificate.is_empty());
    let socket = plugin.line.socket.clone();
    let connector = service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    let channel = endpoint.connect_with_connector(connector).await.unwrap();
    assert_eq!(
        health(channel, "plugin").await.unwrap(),
        ServingStatus::Serving
    );
}

#[tokio::test]
async fn a_wish_for_locked_memory_never_keeps_it_from_serving() {
    let identity = Identity::new();
    let process = PluginProcess::start_with(&identity, |command| {
        command.env("VAULT_PLUGIN_MLOCK_ENABLED", "true");
    })
    .await;
    let host = Host::connect(identity, &process.line).await;
    assert_eq!(host.ping().await, ServingStatus::Serving);
}

#[tokio::test]
async fn version_and_help_go_to_stdout_and_succeed() {
    for flag in ["--version", "-version"] {
        let version = output(|command| _ = command.arg(flag)).await;
        assert_eq!(version.status.code(), Some(0));
        let expected = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"), "\n");
        assert_eq!(text(&version.stdout), expected);
    }
    for flag in ["--help", "-help", "-h"] {
        let help = output(|command| _ = command.arg(flag)).await;
        assert_eq!(help.status.code(), Some(0));
        assert!(text(&help.stdout).contains("--version"));
    }
}
