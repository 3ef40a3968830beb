//! The promise, on a real server with short times: a key works for as long as its reader was told,
//! whatever rotations come meanwhile.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Mount, Promise, SOON, Vault};

#[tokio::test]
async fn a_key_works_until_the_last_moment_of_what_its_reader_was_told() {
    let vault = Vault::dev().await;
    let mount = Mount::on(vault.client()).await;
    let tune = format!("sys/mounts/{}/tune", mount.path());
    let role = json!({"rotation_period": 5, "rotation_grace_period": 5, "ttl": 4});
    mount.role("app", role).await;
    let (begun, mut promises, mut versions) = (Instant::now(), Vec::new(), Vec::new());
    let mut steps = 0;
    // Until it was rotated several times, by hand and by schedule.
    while versions.len() < 5 || steps < 60 {
        assert!(begun.elapsed() < SOON * 5, "it was rotated: {versions:?}");
        for path in ["creds/app", "static-creds/app"] {
            let asked = mount.openrouter.clock().now();
            let reply = mount.read(path).await.ok();
            versions.push(reply.integer("key_version"));
            promises.push(Promise::made_by(&reply, asked));
        }
        // What operators do meanwhile: rotate by hand, less often than the schedule, and tune the mount up
        // and down.
        steps += 1;
        if steps % 28 == 0 {
            let rotated = mount.write("rotate-role/app", json!({})).await;
            // The schedule may be there first.
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
