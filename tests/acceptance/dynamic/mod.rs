//! Dynamic roles: a separate key for every lease, deleted when the lease ends.

mod crash;
mod end;
mod issue;
mod role;

use serde_json::{Value, json};

use crate::harness::{Client, Mount, Reply, SOON, eventually};

/// A mount with the dynamic role `ci`.
pub(super) async fn dynamic(mut fields: Value) -> Mount {
    let mount = Mount::new().await;
    fields["credential_type"] = "dynamic".into();
    mount.role("ci", fields).await.ok();
    mount
}

/// A client that may read `creds/ci` of the mount.
pub(super) async fn token(mount: &Mount, mut fields: Value) -> Client {
    let policy = format!("ci-{}", mount.path());
    let rule = format!(
        "path \"{}\" {{ capabilities = [\"read\"] }}",
        mount.at("creds/ci")
    );
    let path = format!("sys/policies/acl/{policy}");
    mount
        .client()
        .write(&path, json!({"policy": rule}))
        .await
        .ok();
    fields["policies"] = json!([policy]);
    let reply = mount.client().write("auth/token/create", fields).await.ok();
    let token = reply.json()["auth"]["client_token"].as_str().unwrap();
    mount.client().with_token(token)
}

pub(super) async fn revoke(client: &Client, lease: &Reply) -> Reply {
    let body = json!({"lease_id": lease.lease_id(), "sync": true});
    client.write("sys/leases/revoke", body).await
}

pub(super) async fn renew(client: &Client, lease: &Reply, mut body: Value) -> Reply {
    body["lease_id"] = lease.lease_id().into();
    client.write("sys/leases/renew", body).await
}

pub(super) async fn no_key_is_left(mount: &Mount) {
    eventually("no key is left", SOON, async || {
        mount.openrouter.hashes().is_empty().then_some(())
    })
    .await;
}
