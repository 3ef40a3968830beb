//! Vault Agent renders a separate key to a file, with the configuration of `samples/agent/agent.hcl`.

use jiff::Timestamp;
use serde_json::json;

use super::{
    dynamic, each_key_was_renewed_to_its_end, look_up, no_key_is_left, replaced_with_time_left,
};
use crate::consumers::agent::{SOME_LEASES, agent, rendered};
use crate::consumers::application::Tally;
use crate::harness::{Mount, SOON, Sidecar, eventually};

#[tokio::test]
async fn an_agent_renews_its_key_and_has_another_before_that_one_dies() {
    let mount = dynamic(replaced_with_time_left()).await;
    let agent = agent(&mount).await;
    let used = Tally::until_keys_are_dead(&mount, 2, async || rendered(&agent)).await;
    used.is_flawless();
    each_key_was_renewed_to_its_end(&mount, &used.keys);
    // The command runs after the file was written, and only for another key.
    let told: Vec<String> = used.keys.iter().map(|key| line(key)).collect();
    let runs = async || (agent.lines("runs").len() >= told.len()).then(|| agent.lines("runs"));
    let runs = eventually("the command is run for each key", SOON, runs).await;
    assert_eq!(runs[..told.len()], told);
}

#[tokio::test]
async fn an_agent_that_ends_leaves_its_key_to_its_token() {
    let mount = dynamic(json!({})).await;
    let agent = agent(&mount).await;
    let key = first_key(&agent).await;
    let token = agent.file("vault-token").expect("its token");
    drop(agent);
    let works = mount.openrouter.accepts(&key).await;
    // What ended the key, if not its lease.
    assert!(works, "{:#?}", mount.openrouter.requests().all());
    let token = mount.client().with_token(&token);
    token.write("auth/token/revoke-self", json!({})).await.ok();
    no_key_is_left(&mount).await;
}

#[tokio::test]
async fn an_agent_that_ends_leaves_its_key_to_the_end_of_the_lease() {
    let ttl = 10;
    let mount = dynamic(json!({"ttl": ttl})).await;
    let agent = agent(&mount).await;
    first_key(&agent).await;
    eventually("a lease is renewed beyond its end", SOON, async || {
        lasts_longer(&mount, ttl).await.then_some(())
    })
    .await;
    assert!(!mount.openrouter.hashes().is_empty());
    drop(agent);
    no_key_is_left(&mount).await;
}

/// Whether there is a lease that lasts longer than when it was issued.
async fn lasts_longer(mount: &Mount, ttl: i64) -> bool {
    let role = mount.at("creds/app");
    let leases = format!("sys/leases/lookup/{role}");
    for name in mount.client().list(&leases).await.keys() {
        let Some(lease) = look_up(mount, &format!("{role}/{name}")).await else {
            continue;
        };
        let time = |field| lease.text(field).parse::<Timestamp>().unwrap();
        let lasts = time("expire_time").duration_since(time("issue_time"));
        if lasts.as_secs() > ttl {
            return true;
        }
    }
    false
}

async fn first_key(agent: &Sidecar) -> String {
    eventually("the key is rendered", SOME_LEASES, async || rendered(agent)).await
}

fn line(key: &str) -> String {
    format!("OPENROUTER_API_KEY={key}")
}
