//! What must not wait behind hanging requests of the same connection, through the server's own HTTP API.

use futures::future::join_all;
use openrouter_simulator::Fault;
use serde_json::json;

use crate::harness::Mount;

#[tokio::test]
async fn an_emergency_and_a_revocation_wait_for_none_of_eight_hanging_requests() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let dynamic = json!({"credential_type": "dynamic"});
    mount.role("ci", dynamic).await;
    let old = mount.key("app").await;
    let leased = mount.read("creds/ci").await.ok();
    let faults = mount.openrouter.faults();
    faults.add(Fault::held().on("POST", "/keys").times(HANGING));
    let readers = join_all((0..HANGING).map(|_| mount.read("creds/ci")));
    tokio::pin!(readers);
    let meanwhile = async {
        mount.openrouter.holding(HANGING as usize).await;
        let emergency = json!({"rotation_grace_period": 0});
        mount.write("rotate-role/app", emergency).await.ok();
        let body = json!({"lease_id": leased.lease_id(), "sync": true});
        mount.client().write("sys/leases/revoke", body).await.ok();
        assert_eq!(faults.held(), HANGING as usize, "they still hang");
    };
    tokio::select! {
        _ = &mut readers => panic!("nobody lets them go"),
        () = meanwhile => {}
    }
    assert!(!mount.openrouter.accepts(&old).await);
    assert!(!mount.openrouter.accepts(&leased.text("api_key")).await);
    faults.clear();
    readers.await;
    let key = mount.key("app").await;
    assert!(mount.openrouter.accepts(&key).await);
}

/// As many requests as the connection has ordinary places.
const HANGING: u32 = 8;
