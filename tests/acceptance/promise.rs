//! The promise, on a real server with short times: a key works for as long as its reader was told,
//! whatever rotations come meanwhile.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{Mount, Vault};

#[tokio::test]
async fn a_key_works_until_the_last_moment_of_what_its_reader_was_told() {
    let vault = Vault::dev().await;
    let mount = Mount::on(vault.client()).await;
    let tune = format!("sys/mounts/{}/tune", mount.path());
    let role = json!({"rotation_period": 5, "rotation_grace_period": 5, "ttl": 4});
    mount.role("app", role).await;
    let (begun, mut readers, mut versions) = (Instant::now(), JoinSet::new(), Vec::new());
    let mut steps = 0;
    while begun.elapsed() < Duration::from_secs(14) {
        for path in ["creds/app", "static-creds/app"] {
            let asked = Instant::now();
            let reply = mount.read(path).await.ok();
            let ttl = u64::try_from(reply.integer("ttl")).unwrap();
            versions.push(reply.integer("key_version"));
            readers.spawn(mount.openrouter.accepts_at(
                // The lease counts from the answer, and so ends a little later than this.
                asked + Duration::from_secs(ttl),
                reply.text("api_key"),
            ));
        }
        // What operators do meanwhile: rotate by hand, and tune the mount up and down.
        steps += 1;
        if steps % 12 == 0 {
            mount.write("rotate-role/app", json!({})).await.ok();
        }
        let longest = if steps % 2 == 0 { "2s" } else { "1h" };
        let body = json!({"max_lease_ttl": longest});
        mount.client().write(&tune, body).await.ok();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let read = readers.len();
    let accepted = readers.join_all().await;
    assert!(
        accepted.into_iter().all(|accepted| accepted),
        "of {read} reads"
    );
    versions.dedup();
    assert!(versions.len() > 3, "it was rotated: {versions:?}");
    mount.knows_every_key().await;
}
