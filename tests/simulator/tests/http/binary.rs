//! The program: what it prints, and how it ends.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::client::Client;

fn start(arguments: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_openrouter-simulator"))
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

async fn signalled(mut child: Child, signal: &str) -> std::process::ExitStatus {
    let id = child.id().unwrap().to_string();
    let sent = Command::new("kill")
        .args([signal, &id])
        .status()
        .await
        .unwrap();
    assert!(sent.success());
    child.wait().await.unwrap()
}

#[tokio::test]
async fn the_first_line_is_the_base_url_and_a_made_up_management_key_follows() {
    let (child, mut lines) = start(&[]);
    let base_url = lines.next_line().await.unwrap().unwrap();
    assert!(base_url.starts_with("http://127.0.0.1:") && base_url.ends_with("/api/v1"));
    let management_key = lines.next_line().await.unwrap().unwrap();
    let client = Client::at(base_url, Some(&management_key));
    assert_eq!(client.get("/keys").await.status, 200);
    assert!(signalled(child, "-TERM").await.success());
    assert_eq!(lines.next_line().await.unwrap(), None);
}

#[tokio::test]
async fn given_keys_and_workspaces_are_used_and_not_printed() {
    let workspace = "6f1c2a52-9a7e-4b6f-8a51-0d1e3c4b5a69";
    let (child, mut lines) = start(&[
        "--management-key",
        "sk-or-v1-one",
        "--management-key",
        "sk-or-v1-two",
        "--workspace",
        workspace,
        "--latency",
        "1",
    ]);
    let base_url = lines.next_line().await.unwrap().unwrap();
    let client = Client::at(base_url, Some("sk-or-v1-two"));
    let listed = client.get(&format!("/keys?workspace_id={workspace}")).await;
    assert_eq!(listed.status, 200);
    assert!(signalled(child, "-INT").await.success());
    assert_eq!(lines.next_line().await.unwrap(), None);
}

#[tokio::test]
async fn an_address_that_others_can_reach_is_refused() {
    let (child, _) = start(&["--listen", "0.0.0.0:0"]);
    let output = child.wait_with_output().await.unwrap();
    assert!(!output.status.success());
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(
        complaint.contains("0.0.0.0:0 is not a loopback address"),
        "{complaint}"
    );
}
