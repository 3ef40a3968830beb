//! Vault Agent as the parent of an application (process supervisor mode), with the configuration of
//! `samples/agent/supervisor.hcl`.

use std::collections::BTreeSet;

use serde_json::json;

use super::application::{LONG_GRACE, Tally};
use crate::harness::{Mount, Sidecar};

#[tokio::test]
async fn a_supervised_application_is_restarted_for_each_new_key_and_never_uses_a_dead_one() {
    let mount = Mount::new().await;
    // Agent waits two seconds after a change before it restarts its child, so the old key is in use for up to
    // a lease and two seconds.
    let fields = json!({"rotation_period": 8, "rotation_grace_period": LONG_GRACE, "ttl": 3});
    mount.role("app", fields).await;
    let setup = Sidecar::setup(&mount, "agent/supervisor.hcl").await;
    let agent = setup.with_script("application", APPLICATION).agent();
    let running = async || agent.lines("starts").pop();
    Tally::until_keys_are_dead(&mount, 2, running)
        .await
        .is_flawless();
    let starts = agent.lines("starts");
    let keys: BTreeSet<&String> = starts.iter().collect();
    // Agent has read about twice for each key, and has restarted the application only when the key had
    // changed.
    assert_eq!(keys.len(), starts.len());
}

/// Records the key that it was started with, and runs until it is stopped or its parent is gone.
const APPLICATION: &str = r#"
printf '%s\n' "$OPENROUTER_API_KEY" >>starts
while kill -0 "$PPID" 2>/dev/null; do sleep 0.2; done
"#;
