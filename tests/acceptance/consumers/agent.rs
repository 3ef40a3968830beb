//! Vault Agent that renders the key to a file, as `samples/agent/agent.hcl` has it.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::json;

use super::application::{LONG_GRACE, Tally};
use crate::harness::{Mount, Sidecar, eventually};

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
        // Agent reads two or three times more, and has no reason to run it again.
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
    // When Agent reads anew is its own choice, before 95 % of the lease are over; here there is no other
    // reason to do so.
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

pub(super) async fn agent(mount: &Mount) -> Sidecar {
    let setup = Sidecar::setup(mount, "agent/agent.hcl").await;
    setup
        .with_script("on-new-key", "cat openrouter.env >>runs")
        .agent()
}

/// The key in the file, if there is one yet.
pub(super) fn rendered(agent: &Sidecar) -> Option<String> {
    let text = agent.file("openrouter.env")?;
    let key = text.trim_end().strip_prefix("OPENROUTER_API_KEY=")?;
    Some(key.to_owned())
}

/// Longer than Agent takes to start and to read anew, on a busy machine.
pub(super) const SOME_LEASES: Duration = Duration::from_secs(120);
