//! Shell scripts that read a key, as in `samples/shell/`: with the command line, with `curl`, and with
//! response wrapping.

use std::process::Output;

use serde_json::{Value, json};

use crate::harness::{Mount, PLUGIN_NAME, Vault, output_of, reader, runs, samples, skipped};

#[tokio::test]
async fn a_field_is_read_bare_and_a_whole_reply_as_json() {
    let (vault, mount) = with_role().await;
    let path = mount.at("creds/app");
    let key = vault.cli(&["read", "-field=api_key", &path]).await.ok();
    assert_eq!(key, mount.key("app").await);
    let whole = vault.cli(&["read", "-format=json", &path]).await.ok();
    let whole: Value = serde_json::from_str(&whole).expect("JSON");
    assert_eq!(whole["data"]["api_key"], key);
    assert_eq!(whole["data"]["ttl"], whole["lease_duration"]);
    assert_eq!(whole["renewable"], false);
}

#[tokio::test]
async fn a_wrapped_key_is_unwrapped_once() {
    let (vault, mount) = with_role().await;
    let path = mount.at("creds/app");
    let wrapped = ["read", "-wrap-ttl=60s", "-field=wrapping_token", &path];
    let token = vault.cli(&wrapped).await.ok();
    let key = vault.cli(&["unwrap", "-field=api_key", &token]).await.ok();
    assert_eq!(key, mount.key("app").await);
    let again = mount
        .client()
        .write("sys/wrapping/unwrap", json!({"token": token}))
        .await;
    again.refused(400, &["wrapping token"]);
}

#[tokio::test]
async fn the_sample_scripts_print_the_key() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let key = mount.key("app").await;
    for script in [
        "with-cli",
        "with-cli-wrapped",
        "with-curl",
        "with-curl-wrapped",
    ] {
        if script.contains("curl") && !runs("curl") {
            skipped(&format!("samples/shell/{script}: curl is not installed"));
            continue;
        }
        assert_eq!(printed_by(script, &mount).await, key, "{script}");
    }
}

#[tokio::test]
async fn a_sample_script_without_the_right_to_read_fails_and_prints_nothing() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let other = Mount::new().await;
    other.role("app", json!({})).await;
    for script in [
        "with-cli",
        "with-cli-wrapped",
        "with-curl",
        "with-curl-wrapped",
    ] {
        let output = run(script, &mount, reader(&other).await.token()).await;
        assert!(!output.status.success(), "{script}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{script}");
    }
}

/// A server for this test and a mount on it. The command line needs its own server.
async fn with_role() -> (Vault, Mount) {
    let vault = Vault::dev().await;
    let mount = Mount::of(PLUGIN_NAME, vault.client()).await;
    mount.connect().await.ok();
    mount.role("app", json!({})).await;
    (vault, mount)
}

/// The output of `samples/shell/<script>` for a client that may only read this mount's `creds/app`.
async fn printed_by(script: &str, mount: &Mount) -> String {
    let output = run(script, mount, reader(mount).await.token()).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {said}");
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

async fn run(script: &str, mount: &Mount, token: &str) -> Output {
    let script = samples().join("shell").join(script);
    let client = mount.client().with_token(token);
    output_of(&script, &[&mount.at("creds/app")], &client).await
}
