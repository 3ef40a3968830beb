//! Vault Agent that renders a key of its own to a file, as `samples/agent/agent.hcl` has it.

use std::time::Duration;

use serde_json::json;

use super::{dynamic, each_key_was_renewed_to_its_end, replaced_with_five_seconds_left};
use crate::consumers::agent::{SOME_LEASES, agent, rendered};
use crate::consumers::application::Tally;
use crate::harness::{Mount, SOON, Sidecar, eventually};

#[tokio::test]
async fn an_agent_renews_its_key_and_has_another_before_that_one_dies() {
    let mount = dynamic(replaced_with_five_seconds_left()).await;
    let agent = agent(&mount).await;
    let used = Tally::until_keys_are_dead(&mount, 2, async || rendered(&agent)).await;
    used.is_flawless();
    assert!(used.keys.len() >= 3, "{used:?}");
    each_key_was_renewed_to_its_end(&mount, &used.keys, [15, 27]);
    // The command is run when the file was written, and that only for another key.
    let told: Vec<String> = used.keys.iter().map(|key| line(key)).collect();
    assert_eq!(agent.lines("runs"), told);
}

#[tokio::test]
async fn an_agent_that_ends_leaves_its_key_to_its_token() {
    let mount = dynamic(json!({})).await;
    let agent = agent(&mount).await;
    let key = first_key(&agent).await;
    let token = agent.file("vault-token").expect("its token");
    drop(agent);
    assert!(mount.openrouter.accepts(&key).await);
    let token = mount.client().with_token(&token);
    token.write("auth/token/revoke-self", json!({})).await.ok();
    no_key_is_left(&mount, SOON).await;
}

#[tokio::test]
async fn an_agent_that_ends_leaves_its_key_to_the_end_of_the_lease() {
    let mount = dynamic(json!({"ttl": 5})).await;
    let agent = agent(&mount).await;
    let key = first_key(&agent).await;
    // Longer than the lease: it is renewed.
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(mount.openrouter.accepts(&key).await);
    drop(agent);
    no_key_is_left(&mount, SOON * 2).await;
}

async fn first_key(agent: &Sidecar) -> String {
    eventually("the key is rendered", SOME_LEASES, async || rendered(agent)).await
}

async fn no_key_is_left(mount: &Mount, time: Duration) {
    eventually("no key is left", time, async || {
        mount.openrouter.hashes().is_empty().then_some(())
    })
    .await;
}

fn line(key: &str) -> String {
    format!("OPENROUTER_API_KEY={key}")
}
