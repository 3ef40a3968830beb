//! External Secrets Operator while Vault is away: killed and restarted, and away for a minute.

use std::cell::Cell;

use serde_json::json;

use super::site::{Intervals, Site};
use crate::consumers::application::{LONG_GRACE, Tally};
use crate::consumers::minute::Minute;
use crate::harness::{SOON, eventually};

#[tokio::test]
async fn external_secrets_operator_outlives_a_killed_vault_and_a_minute_without_it() {
    let Some(mut site) = Site::new().await else {
        return;
    };
    // Otherwise its keys would expire at OpenRouter during the minute.
    let fields = json!({
        "rotation_period": 15, "rotation_grace_period": LONG_GRACE, "ttl": 10,
        "key_max_lifetime": "1d",
    });
    site.mount.role("app", fields).await;
    let jobs = json!({"credential_type": "dynamic"});
    site.mount.role("jobs", jobs).await;
    let intervals = Intervals {
        rotating: "8s",
        dynamic: "45m",
    };
    site.deploy(&intervals).await;
    let (api, mount, vault) = (site.cluster.api(), &site.mount, &mut site.vault);

    let (keys, back) = (Cell::new(0), Cell::new(None));
    let killed = async {
        let rotated = async || (keys.get() > 1).then_some(());
        eventually("a rotation reaches the Secret", SOON, rotated).await;
        vault.kill();
        vault.start().await;
        back.set(Some(keys.get()));
    };
    let done = |used: &Tally| {
        keys.set(used.keys.len());
        // The first request after the kill may have been made before it.
        back.get().is_some_and(|before| keys.get() > before + 1)
    };
    let used = Tally::of(mount, async || api.key_in("openrouter").await, done);
    let (used, ()) = tokio::join!(used, killed);
    used.is_flawless();

    let minute = Minute::of(mount, 1).await;
    tokio::join!(
        minute.is_survived_by("External Secrets Operator", async || {
            api.key_in("openrouter").await
        }),
        minute.passes(vault),
    );
}
