//! Vault Agent renders the key to a file, with the configuration of `samples/agent/agent.hcl`.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::json;

use super::application::{LONG_GRACE, Tally};
use crate::harness::{Mount, Sidecar, eventually, samples};

#[tokio::test]
async fn an_application_that_reads_the_agents_file_never_uses_a_dead_key() {
    let mount = Mount::new().await;
    // Agent reads every three seconds, so several times between two rotations.
    let fields = json!({"rotation_period": 8, "rotation_grace_period": LONG_GRACE, "ttl": 3});
    mount.role("app", fields).await;
    let agent = agent(&mount).await;
    let used = Tally::until_keys_are_dead(&mount, 2, async || rendered(&agent)).await;
    used.is_flawless();
}

#[tokio::test]
async fn an_agents_command_is_run_once_for_each_key() {
    let mount = Mount::new().await;
    let fields = json!({"rotation_period": "1h", "rotation_grace_period": "1h", "ttl": 2});
    mount.role("app", fields).await;
    let agent = agent(&mount).await;
    for rotations in 0..3 {
        let runs = async || (agent.lines("runs").len() > rotations).then_some(());
        eventually("the command is run for the key", SOME_LEASES, runs).await;
        // Agent reads two or three more times, and has no reason to run the command again.
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(agent.lines("runs").len(), rotations + 1);
        mount.write("rotate-role/app", json!({})).await.ok();
    }
    let keys: BTreeSet<String> = agent.lines("runs").into_iter().collect();
    let made = mount.openrouter.account().all_keys();
    let made: BTreeSet<String> = made
        .iter()
        .map(|key| format!("OPENROUTER_API_KEY={}", key.secret()))
        .collect();
    assert!(
        keys.is_subset(&made) && keys.len() >= 3,
        "{} runs",
        keys.len()
    );
}

#[tokio::test]
async fn after_an_emergency_rotation_the_end_of_its_lease_brings_an_agent_the_next_key() {
    let mount = Mount::new().await;
    // Agent chooses when to read again, before 95 % of the lease has passed. Here nothing else causes it to
    // read.
    mount.role("app", json!({"ttl": 5})).await;
    let agent = agent(&mount).await;
    let first = eventually("the key is rendered", SOME_LEASES, async || {
        rendered(&agent)
    })
    .await;
    mount
        .write("rotate-role/app", json!({"rotation_grace_period": 0}))
        .await
        .ok();
    assert!(!mount.openrouter.accepts(&first).await);
    let next = async || rendered(&agent).filter(|key| *key != first);
    let second = eventually("the next key is rendered", SOME_LEASES, next).await;
    assert!(mount.openrouter.accepts(&second).await);
}

#[tokio::test]
async fn an_agents_file_has_nothing_but_the_key_and_is_for_its_owner_alone() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let agent = agent(&mount).await;
    let file = async || agent.file("openrouter.env");
    let text = eventually("the key is rendered", SOME_LEASES, file).await;
    let key = mount.key("app").await;
    assert_eq!(text, format!("OPENROUTER_API_KEY={key}\n"));
    let mode = std::fs::metadata(agent.path("openrouter.env"))
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_command_that_failed_is_run_again_with_the_next_key_and_not_before() {
    let mount = Mount::new().await;
    mount.role("app", json!({"ttl": 2})).await;
    let setup = Sidecar::setup(&mount, "agent/agent.hcl").await;
    let fails = "cat openrouter.env >>runs; exit 1";
    let agent = setup.with_script("on-new-key", fails).agent();
    for rotations in 0..2 {
        let runs = async || (agent.lines("runs").len() > rotations).then_some(());
        eventually("the command is run for the key", SOME_LEASES, runs).await;
        // Agent reads two or three more times, and gets the same key.
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(agent.lines("runs").len(), rotations + 1);
        mount.write("rotate-role/app", json!({})).await.ok();
    }
}

/// The injector makes Agent exit after a final failure, and a failed command counts as one.
#[tokio::test]
async fn the_injectors_sidecar_outlives_an_application_that_cannot_be_signalled() {
    let mount = Mount::new().await;
    mount.role("app", json!({"ttl": 2})).await;
    let manifest = samples().join("kubernetes/agent-injector.yaml");
    let manifest = std::fs::read_to_string(manifest).expect("the sample can be read");
    let command = annotation(&manifest, "agent-inject-command-openrouter.env");
    // Another process with that name may be running on this machine.
    let command = command.replace("pkill ", "./signal ");
    assert!(command.starts_with("./signal "), "{command}");
    let setup = Sidecar::configured(&mount, &injected(&manifest, &command)).await;
    let signal = "echo \"$@\" >>signals; exit 1";
    let mut agent = setup.with_script("signal", signal).agent();
    let mut last = None;
    for rotations in 0..3 {
        let next = async || rendered(&agent).filter(|key| last.as_ref() != Some(key));
        last = Some(eventually("the key is rendered", SOME_LEASES, next).await);
        let signals = async || (agent.lines("signals").len() > rotations).then_some(());
        eventually("the application is signalled", SOME_LEASES, signals).await;
        assert!(!agent.has_ended());
        mount.write("rotate-role/app", json!({})).await.ok();
    }
}

/// The configuration that the injector creates from its annotations, with its template settings.
fn injected(manifest: &str, command: &str) -> String {
    let contents = manifest
        .lines()
        .find_map(|line| line.trim().strip_prefix("{{ with secret"))
        .map(|rest| format!("{{{{ with secret{rest}\n"))
        .expect("a template");
    format!(
        "auto_auth {{\n  method {{\n    type = \"token_file\"\n    config = {{ token_file_path = \
         \"vault-token\" }}\n  }}\n}}\ntemplate_config {{\n  exit_on_retry_failure = true\n}}\n\
         template {{\n  contents = {contents:?}\n  destination = \"openrouter.env\"\n  command = \
         {command:?}\n}}\n"
    )
}

fn annotation(manifest: &str, name: &str) -> String {
    let name = format!("vault.hashicorp.com/{name}: ");
    let value = manifest
        .lines()
        .find_map(|line| line.trim().strip_prefix(name.as_str()));
    value.expect("an annotation").to_owned()
}

pub(super) async fn agent(mount: &Mount) -> Sidecar {
    let setup = Sidecar::setup(mount, "agent/agent.hcl").await;
    setup
        .with_script("on-new-key", "cat openrouter.env >>runs")
        .agent()
}

/// The key in the file, if it has been written.
pub(super) fn rendered(agent: &Sidecar) -> Option<String> {
    let text = agent.file("openrouter.env")?;
    let key = text.trim_end().strip_prefix("OPENROUTER_API_KEY=")?;
    Some(key.to_owned())
}

/// Longer than Agent takes to start and to read again, on a busy machine.
pub(super) const SOME_LEASES: Duration = Duration::from_secs(120);
