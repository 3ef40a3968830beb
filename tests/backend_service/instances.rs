//! The instance that a call is for.

use serde_json::{Value, json};
use tonic::Status;
use vault_plugin_secrets_openrouter::logical::pb::multiplexing::MultiplexingSupportRequest;
use vault_plugin_secrets_openrouter::logical::pb::multiplexing::plugin_multiplexing_client::PluginMultiplexingClient;

use crate::support::vault_host::{Caller, Vault, request};
use crate::support::vault_mount::MountServer;

/// The outcomes of every call that is for one instance.
async fn all_calls(caller: &Caller) -> Vec<(&'static str, Option<Status>)> {
    let read = request("read", "config", "null");
    vec![
        ("HandleRequest", caller.handle(read).await.err()),
        ("SpecialPaths", caller.special_paths().await.err()),
        ("Initialize", caller.initialize().await.err()),
        ("InvalidateKey", caller.invalidate("config/x").await.err()),
        (
            "HandleExistenceCheck",
            caller.existence_check("roles/app").await.err(),
        ),
    ]
}

#[tokio::test]
async fn a_call_for_no_instance_fails() {
    let vault = Vault::start().await;
    let _mount = vault.mount().await;
    let cases: [(&[&str], &str); 4] = [
        (&[], "missing"),
        (&[""], "empty"),
        (&["mount1", "mount1"], "twice"),
        (&["mount2"], "no backend instance"),
    ];
    for (ids, reason) in cases {
        for (call, failed) in all_calls(&vault.caller(ids)).await {
            let failed = failed.unwrap_or_else(|| panic!("{call} with {ids:?} is answered"));
            assert!(failed.message().contains(reason), "{call}: {failed:?}");
        }
    }
    for (call, failed) in all_calls(&vault.caller(&["mount1"])).await {
        assert!(failed.is_none(), "{call}: {failed:?}");
    }
}

#[tokio::test]
async fn setup_and_cleanup_want_exactly_one_id_too() {
    let vault = Vault::start().await;
    let services = vault.offer(&MountServer::default());
    vault.announce(&services).await;
    for ids in [&[][..], &[""], &["a", "b"]] {
        let caller = vault.caller(ids);
        assert!(caller.setup(services.id).await.is_err(), "{ids:?}");
        assert!(caller.cleanup().await.is_err(), "{ids:?}");
    }
    // Correct calls are not affected.
    let setup = vault.caller(&["a"]).setup(services.id).await;
    assert_eq!(setup.unwrap().err, "");
}

#[tokio::test]
async fn a_server_may_ask_for_multiplexing_before_there_is_any_instance() {
    let vault = Vault::start().await;
    let mut client = PluginMultiplexingClient::new(vault.host.channel());
    let reply = client.multiplexing_support(MultiplexingSupportRequest {});
    assert!(reply.await.unwrap().into_inner().supported);
}

#[tokio::test]
async fn mounts_in_one_process_know_nothing_of_each_other() {
    let vault = Vault::start().await;
    let (one, other) = (vault.mount().await, vault.mount().await);
    let connection = json!({
        "management_key": "sk-or-v1-x",
        "description": "of the first",
        "verify_connection": false,
    });
    one.request("create", "config", connection).await.done();

    let shown = one.request("read", "config", Value::Null).await.data();
    assert_eq!(shown["description"], "of the first");
    other.request("read", "config", Value::Null).await.nothing();
    assert_eq!(other.server.stored().len(), 0);
    let role = other.request("create", "roles/app", Value::Null).await;
    assert!(role.refusal().contains("config"), "it has no connection");
}
