//! The promise, on a real server with short times: a key works for as long as its reader was told, through
//! any rotation.

use std::time::{Duration, Instant};

use openrouter_simulator::Fault;
use serde_json::json;

use crate::harness::{Mount, Promise, SOON, Vault, eventually};

#[tokio::test]
async fn a_key_works_until_the_last_moment_of_what_its_reader_was_told() {
    let vault = Vault::dev().await;
    let mount = Mount::on(vault.client()).await;
    let tune = format!("sys/mounts/{}/tune", mount.path());
    let role = json!({"rotation_period": 5, "rotation_grace_period": 5, "ttl": 4});
    mount.role("app", role).await;
    let (begun, mut promises, mut versions) = (Instant::now(), Vec::new(), Vec::new());
    let mut steps = 0;
    // Until it was rotated several times, manually and by schedule.
    while versions.len() < 5 || steps < 60 {
        assert!(begun.elapsed() < SOON * 5, "it was rotated: {versions:?}");
        for path in ["creds/app", "static-creds/app"] {
            let asked = mount.openrouter.clock().now();
            let reply = mount.read(path).await.ok();
            versions.push(reply.integer("key_version"));
            promises.push(Promise::made_by(&reply, asked));
        }
        // Meanwhile an operator rotates manually, less often than the schedule, and tunes the mount's maximum
        // up and down.
        steps += 1;
        if steps % 28 == 0 {
            let rotated = mount.write("rotate-role/app", json!({})).await;
            // The schedule may be faster.
            assert!(matches!(rotated.status(), 200 | 409), "{rotated}");
        }
        let longest = if steps % 2 == 0 { "2s" } else { "1h" };
        let body = json!({"max_lease_ttl": longest});
        mount.client().write(&tune, body).await.ok();
        versions.dedup();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for promise in &promises {
        promise.is_kept(&mount).await;
    }
    mount.knows_every_key().await;
}

/// A longer `ttl` that is reverted with a rejected change of the limit was promised to readers in the
/// meantime.
#[tokio::test]
async fn what_a_reader_was_told_during_a_refused_change_is_kept() {
    for refusal in [Fault::status(403), Fault::rate_limited(1)] {
        let mount = Mount::new().await;
        let role = json!({"rotation_grace_period": 5, "ttl": 4, "limit": 5});
        mount.role("app", role).await;
        mount.openrouter.set_latency(Duration::from_secs(2));
        let faults = mount.openrouter.faults();
        faults.add(refusal.on("PATCH", "/keys/*").forever());
        let longer = json!({"rotation_grace_period": 30, "ttl": 20, "limit": 9});
        let change = mount.write("roles/app", longer);
        let read = async {
            let asked = || mount.openrouter.requests().to("PATCH", "/keys/*").len() == 1;
            let under_way = async || asked().then_some(());
            eventually("OpenRouter is asked for the change", SOON, under_way).await;
            let now = mount.openrouter.clock().now();
            Promise::made_by(&mount.read("creds/app").await.ok(), now)
        };
        let (_, promise) = tokio::join!(change, read);
        mount.openrouter.set_latency(Duration::ZERO);
        mount.openrouter.recover();
        mount.write("rotate-role/app", json!({})).await.ok();
        promise.is_kept(&mount).await;
        mount.knows_every_key().await;
    }
}
