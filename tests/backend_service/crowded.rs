//! An account with very many keys.

use std::time::Duration;

use openrouter_simulator::Fault;
use serde_json::{Value, json};

use crate::support::vault_host::Vault;
use crate::{connect, openrouter, until_within};

#[tokio::test]
async fn a_lost_key_is_found_behind_a_hundred_thousand_others_in_little_memory() {
    let openrouter = openrouter().await;
    let vault = Vault::start().await;
    let mount = vault.mount().await;
    connect(&mount, &openrouter).await;
    openrouter
        .faults()
        .add(Fault::LostReply.on("POST", "/keys"));
    openrouter
        .faults()
        .add(Fault::status(503).on("GET", "/keys").forever());
    let role = json!({ "description": "for the app" });
    let order = mount.request("create", "roles/app", role.clone()).await;
    assert_eq!(order.fault().err_code, 502);
    // Newest first, so the lost key is now the last key of the last page.
    openrouter.account().create_keys("somebody else's", OTHERS);
    assert_eq!(openrouter.account().count(), OTHERS + 1);

    let before = vault.plugin.memory().used;
    openrouter.faults().clear();
    until_within(A_LONG_LIST, "the lost key is deleted", || {
        openrouter.account().count() == OTHERS
    })
    .await;
    let taken = vault.plugin.memory().used - before;
    assert!(taken < 8 * MEBIBYTE, "{taken} bytes");
    let pages = openrouter.requests().to("GET", "/keys");
    let read = pages.iter().filter(|page| page.status == Some(200));
    assert_eq!(read.count(), (OTHERS + 1).div_ceil(NEW_IN_A_PAGE));
    until_within(A_LONG_LIST, "the intent is deleted", || {
        mount.server.keys_below("wal/").is_empty()
    })
    .await;

    mount.request("create", "roles/app", role).await.done();
    mount.request("read", "creds/app", Value::Null).await.data();
    assert_eq!(openrouter.account().count(), OTHERS + 1);
}

const OTHERS: usize = 100_000;

/// A page has a hundred keys, of which the first is the last one of the previous page.
const NEW_IN_A_PAGE: usize = 99;

/// For a thousand pages in debug builds of the plugin and OpenRouter.
const A_LONG_LIST: Duration = Duration::from_secs(600);

const MEBIBYTE: u64 = 1_024 * 1_024;
