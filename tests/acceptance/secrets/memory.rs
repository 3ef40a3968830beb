//! What is left of a secret in the plugin's memory once it is no longer needed.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Mount, Vault, eventually};

/// Freed memory is overwritten at once, and cached keys a minute after they were read from storage. Live
/// buffers keep their content until they are reused, so the test makes other requests, and closes the
/// connections to OpenRouter by writing `config`.
///
/// Which buffers are alive, and how full they are, depends on the load of the machine. This test is therefore
/// not required for every change: `scripts/test secrets::memory -- --ignored`.
#[tokio::test]
#[ignore = "wants an idle machine"]
async fn a_key_that_was_handed_out_is_soon_nowhere_in_the_plugins_memory() {
    let vault = Vault::dev().await;
    let mount = Mount::on(vault.client()).await;
    mount.role("app", json!({})).await;
    mount
        .role("ci", json!({"credential_type": "dynamic"}))
        .await;
    let mut keys = HashSet::from([mount.key("app").await.into_bytes()]);
    for _ in 0..20 {
        let lease = mount.read("creds/ci").await.ok();
        keys.insert(lease.text("api_key").into_bytes());
        let lease = json!({"lease_id": lease.lease_id(), "sync": true});
        mount.client().write("sys/leases/revoke", lease).await.ok();
    }
    let processes = vault.plugin_processes();
    let [plugin] = processes.as_slice() else {
        panic!("one plugin process, not {processes:?}");
    };
    // The rotating role's key is cached for a minute. Nobody reads it any more.
    let cached = HashSet::from([mount.key("app").await.into_bytes()]);
    assert!(holds_any(&plugin.memory(), &cached));
    let read = Instant::now();
    // From then on it is only in Vault's storage.
    let gone = "no key is in memory a minute after it was read";
    eventually(gone, A_MINUTE_AND_THE_BUFFERS, async || {
        mount.connect().await.ok();
        for _ in 0..50 {
            mount.read("roles/ci").await.ok();
            mount.list("roles").await.ok();
        }
        (!holds_any(&plugin.memory(), &keys)).then_some(())
    })
    .await;
    let took = read.elapsed();
    println!("the last was gone after {took:?}");
    // The client of a connection in use holds the management key, which shows what a key in memory looks
    // like.
    mount.read("creds/ci").await.ok();
    let held = HashSet::from([mount.openrouter.management_key().as_bytes().to_vec()]);
    assert!(holds_any(&plugin.memory(), &held));
}

/// Whether a whole key is somewhere in the memory.
fn holds_any(memory: &[u8], keys: &HashSet<Vec<u8>>) -> bool {
    let length = "sk-or-v1-".len() + 64;
    assert!(keys.iter().all(|key| key.len() == length));
    let mut candidates = memory.windows(length);
    candidates.any(|text| text.starts_with(b"sk-or-v1-") && keys.contains(text))
}

/// A minute from when the key was last read from storage, which was before the test started to count, plus
/// the time until an expired entry is swept and every buffer was used again.
const A_MINUTE_AND_THE_BUFFERS: Duration = Duration::from_secs(75);
