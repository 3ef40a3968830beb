//! The leases of a dynamic role on the command line: the commands of `docs/concepts.md`, run literally, and
//! response wrapping.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{dynamic, no_key_is_left};
use crate::harness::{Client, Mount, Reply, output_of, reader};

#[tokio::test]
async fn the_session_in_the_documentation_runs_as_it_is_shown() {
    let mount = Mount::new().await;
    let mut lease = None;
    for shown in session("Leases of dynamic roles") {
        let command = with_lease(&shown.command, lease.as_deref());
        let printed = shell(&format!("{command} 2>&1"), &mount).await;
        assert_eq!(outline(&printed), outline(&shown.printed), "{command}");
        lease = lease.or_else(|| value_of("lease_id", &printed));
    }
    assert_eq!(mount.openrouter.account().all_keys().len(), 1);
    no_key_is_left(&mount).await;
}

#[tokio::test]
async fn each_documented_command_that_ends_leases_ends_their_keys() {
    let mount = Mount::new().await;
    mount
        .role("ci", json!({"credential_type": "dynamic"}))
        .await;
    let revoke_prefix = "vault lease revoke -prefix openrouter/creds/ci";
    let disable = "vault secrets disable openrouter";
    let concepts = concepts();
    for command in [revoke_prefix, disable] {
        assert!(concepts.contains(command), "{command}");
        for _ in 0..2 {
            mount.read("creds/ci").await.ok();
        }
        shell(command, &mount).await;
        no_key_is_left(&mount).await;
    }
}

#[tokio::test]
async fn a_token_that_is_revoked_by_the_command_line_takes_its_key_along() {
    let mount = dynamic(json!({})).await;
    let reader = reader(&mount).await;
    reader.read(&mount.at("creds/app")).await.ok();
    shell(&format!("vault token revoke {}", reader.token()), &mount).await;
    no_key_is_left(&mount).await;
}

#[tokio::test]
async fn a_field_is_read_bare_and_a_whole_reply_as_json() {
    let mount = dynamic(json!({})).await;
    let path = mount.at("creds/app");
    let key = shell(&format!("vault read -field=api_key {path}"), &mount).await;
    assert!(mount.openrouter.accepts(&key).await);
    let whole = shell(&format!("vault read -format=json {path}"), &mount).await;
    let whole: Value = serde_json::from_str(&whole).expect("JSON");
    assert_ne!(whole["data"]["api_key"], key);
    assert_eq!(
        (&whole["renewable"], &whole["lease_duration"]),
        (&json!(true), &json!(3_600))
    );
}

#[tokio::test]
async fn a_wrapped_key_has_its_lease_from_whoever_asked_for_it() {
    let mount = dynamic(json!({})).await;
    let carrier = reader(&mount).await;
    let unwrapped = unwrap(&mount, &wrapped(&carrier, &mount).await).await.ok();
    let key = unwrapped.text("api_key");
    // The wrapping token is already gone.
    assert!(mount.openrouter.accepts(&key).await);
    let lease = json!({"lease_id": unwrapped.lease_id()});
    mount.client().write("sys/leases/renew", lease).await.ok();
    carrier
        .write("auth/token/revoke-self", json!({}))
        .await
        .ok();
    no_key_is_left(&mount).await;
}

#[tokio::test]
async fn a_wrapped_key_that_nobody_unwraps_dies_at_the_end_of_its_lease() {
    let mount = dynamic(json!({"ttl": 3})).await;
    let token = wrapped(&reader(&mount).await, &mount).await;
    assert_eq!(mount.openrouter.account().all_keys().len(), 1);
    no_key_is_left(&mount).await;
    // A caller who is too late gets no reason.
    let late = unwrap(&mount, &token).await.ok();
    assert!(!mount.openrouter.accepts(&late.text("api_key")).await);
}

#[tokio::test]
async fn revoking_the_wrapping_token_leaves_the_key_to_its_lease() {
    let mount = dynamic(json!({})).await;
    let token = wrapped(&reader(&mount).await, &mount).await;
    let body = json!({"token": token});
    mount.client().write("auth/token/revoke", body).await.ok();
    unwrap(&mount, &token)
        .await
        .refused(400, &["wrapping token"]);
    assert_eq!(mount.openrouter.hashes().len(), 1);
}

#[tokio::test]
async fn revoking_by_prefix_ends_a_wrapped_key_and_its_wrapping() {
    let mount = dynamic(json!({})).await;
    let token = wrapped(&reader(&mount).await, &mount).await;
    let revoke = "vault lease revoke -prefix -sync openrouter/creds/app";
    shell(revoke, &mount).await;
    assert_eq!(mount.openrouter.hashes(), [""; 0]);
    unwrap(&mount, &token)
        .await
        .refused(400, &["wrapping token"]);
}

/// A read of `creds/app` with response wrapping for an hour.
async fn wrapped(client: &Client, mount: &Mount) -> String {
    let path = mount.at("creds/app");
    let read = format!("vault read -wrap-ttl=1h -field=wrapping_token {path}");
    run(&read, client).await
}

async fn unwrap(mount: &Mount, token: &str) -> Reply {
    let body = json!({"token": token});
    mount.client().write("sys/wrapping/unwrap", body).await
}

/// A documented command line and what it prints.
struct Shown {
    command: String,
    printed: String,
}

/// The console session in a section of the page.
fn session(section: &str) -> Vec<Shown> {
    let concepts = concepts();
    let (_, rest) = concepts
        .split_once(&format!("\n## {section}\n"))
        .expect("the section");
    let (_, rest) = rest.split_once("```console\n").expect("a session");
    let (text, _) = rest.split_once("```").expect("its end");
    // A line that ends with a backslash continues.
    let text = text.replace("\\\n", "");
    text.split("$ ")
        .filter_map(|part| part.split_once('\n'))
        .map(|(command, printed)| Shown {
            command: command.to_owned(),
            printed: printed.to_owned(),
        })
        .collect()
}

fn concepts() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/concepts.md");
    fs::read_to_string(path).expect("the page can be read")
}

/// The command with a real lease instead of the abbreviated one.
fn with_lease(command: &str, lease: Option<&str>) -> String {
    match (command.rsplit_once(' '), lease) {
        (Some((command, abbreviated)), Some(lease)) if abbreviated.ends_with('…') => {
            format!("{command} {lease}")
        }
        _ => command.to_owned(),
    }
}

/// What a reader compares: the names of a table in their order, and other lines completely.
fn outline(printed: &str) -> Vec<String> {
    let lines = printed.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| match line.split_once("   ") {
            Some((name, _value)) => name.to_owned(),
            None => line.trim_end().to_owned(),
        })
        .collect()
}

fn value_of(name: &str, table: &str) -> Option<String> {
    let lines = table.lines().filter_map(|line| line.split_once(' '));
    let mut values = lines.filter(|(field, _)| *field == name);
    values.next().map(|(_, value)| value.trim().to_owned())
}

/// Runs a command that is written for the mount `openrouter` on this mount, as this client.
async fn shell(command: &str, mount: &Mount) -> String {
    let at = mount.path();
    let command = command
        .replace(" openrouter/", &format!(" {at}/"))
        .replace("disable openrouter", &format!("disable {at}"));
    run(&command, mount.client()).await
}

/// Runs a command and returns what it printed; panics if it fails.
async fn run(command: &str, client: &Client) -> String {
    let output = output_of(Path::new("/bin/sh"), &["-c", command], client).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {said}");
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}
