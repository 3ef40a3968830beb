//! Finding keys by nonce, over several pages.

use std::collections::HashSet;
use std::time::Duration;

use openrouter_simulator::{Fault, NewKey as Foreign};
use vault_plugin_secrets_openrouter::openrouter::{Error, NewKey, WorkspaceId};

use crate::{assert_unclear, new_key, simulator};

fn nonces(nonces: &[&str]) -> HashSet<String> {
    nonces.iter().map(|nonce| (*nonce).to_owned()).collect()
}

#[tokio::test]
async fn a_disabled_key_on_the_third_page_is_found() {
    let (simulator, client) = simulator().await;
    let account = simulator.account();
    // Newest first: the key that is created first is listed last.
    account.create_keys("older", 20);
    let wanted = account.create_key(Foreign::named("app 2026-11-20 vault-abc"));
    account.set_disabled(&wanted.hash, true).unwrap();
    account.create_keys("newer", 229);

    let found = client
        .find_by_nonces(&nonces(&["vault-abc"]), None)
        .await
        .unwrap();
    let hashes: Vec<_> = found.iter().map(|key| key.hash.as_str()).collect();
    assert_eq!(hashes, [wanted.hash]);
    assert!(found[0].disabled);
    let queries: Vec<_> = simulator
        .requests()
        .to("GET", "/keys")
        .into_iter()
        .filter_map(|request| request.query)
        .collect();
    let query = |offset| format!("include_disabled=true&include_expired=true&offset={offset}");
    assert_eq!(queries, [query(0), query(99), query(198)]);
}

#[tokio::test]
async fn a_key_that_slips_to_a_page_already_read_is_found() {
    let (simulator, client) = simulator().await;
    let account = simulator.account();
    let wanted = account.create_key(Foreign::named("app vault-abc"));
    account.create_keys("newer", 100);
    simulator
        .faults()
        .add(Fault::held().on("GET", "/keys").nth(2));

    let nonces = nonces(&["vault-abc"]);
    let search = client.find_by_nonces(&nonces, None);
    let meanwhile = async {
        while simulator.faults().held() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // On the first page: all later keys move forward.
        let newest = account.keys().last().unwrap().hash.clone();
        account.delete_key(&newest).unwrap();
        simulator.faults().clear();
    };
    let (found, ()) = tokio::join!(search, meanwhile);
    let hashes: Vec<_> = found.unwrap().into_iter().map(|key| key.hash).collect();
    assert_eq!(hashes.len(), 1);
    assert_eq!(hashes[0].as_str(), wanted.hash);
}

#[tokio::test]
async fn an_expired_key_is_found() {
    let (simulator, client) = simulator().await;
    let key = simulator
        .account()
        .create_key(Foreign::named("app vault-abc"));
    let past = Some("2001-01-01T00:00:00Z".parse().unwrap());
    simulator.account().set_expiry(&key.hash, past).unwrap();
    let found = client
        .find_by_nonces(&nonces(&["vault-abc"]), None)
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].expires_at, past);
}

#[tokio::test]
async fn every_key_with_the_nonce_is_found_and_no_other() {
    let (simulator, client) = simulator().await;
    for name in [
        "a vault-abc",
        "b vault-abc",
        "c vault-abcd",
        "d vault-abc x",
        "my-vault-abc",
    ] {
        simulator.account().create_key(Foreign::named(name));
    }
    let found = client
        .find_by_nonces(&nonces(&["vault-abc"]), None)
        .await
        .unwrap();
    let names: Vec<_> = found.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(names, ["b vault-abc", "a vault-abc"]);
    assert_eq!(
        client.find_by_nonces(&nonces(&["vault-none"]), None).await,
        Ok(vec![])
    );
}

#[tokio::test]
async fn several_nonces_cost_one_listing() {
    let (simulator, client) = simulator().await;
    for name in ["a vault-abc", "b vault-def", "c vault-ghi"] {
        simulator.account().create_key(Foreign::named(name));
    }
    let both = nonces(&["vault-abc", "vault-ghi"]);
    let found = client.find_by_nonces(&both, None).await.unwrap();
    let names: Vec<_> = found.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(names, ["c vault-ghi", "a vault-abc"]);
    assert_eq!(simulator.requests().to("GET", "/keys").len(), 1);
}

#[tokio::test]
async fn only_the_named_workspace_is_searched() {
    let (simulator, client) = simulator().await;
    let workspace = WorkspaceId::parse(&simulator.account().add_workspace()).unwrap();
    let asked = NewKey {
        workspace_id: Some(workspace.clone()),
        ..new_key("app vault-abc")
    };
    client.create_key(&asked).await.unwrap();
    let elsewhere = client
        .find_by_nonces(&nonces(&["vault-abc"]), None)
        .await
        .unwrap();
    let there = client
        .find_by_nonces(&nonces(&["vault-abc"]), Some(&workspace))
        .await
        .unwrap();
    assert_eq!((elsewhere.len(), there.len()), (0, 1));
}

#[tokio::test]
async fn a_workspace_that_does_not_exist_is_not_an_empty_one() {
    let (_simulator, client) = simulator().await;
    let nowhere = WorkspaceId::parse("0f8fad5b-d9cb-469f-a165-70867728950e").unwrap();
    let error = client
        .find_by_nonces(&nonces(&["vault-abc"]), Some(&nowhere))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn a_failure_on_a_later_page_is_a_failure_of_the_whole() {
    let (simulator, client) = simulator().await;
    simulator.account().create_keys("app", 150);
    let fault = Fault::TruncatedBody.on("GET", "/keys").nth(2);
    simulator.faults().add(fault);
    let error = client
        .find_by_nonces(&nonces(&["vault-abc"]), None)
        .await
        .unwrap_err();
    assert_unclear(&error, "the body broke off");
}

#[tokio::test]
async fn a_key_whose_creation_was_unclear_can_be_found_and_deleted() {
    let (simulator, client) = simulator().await;
    simulator.faults().add(Fault::LostReply.on("POST", "/keys"));
    let error = client
        .create_key(&new_key("app vault-abc"))
        .await
        .unwrap_err();
    assert!(!error.is_definite());
    // In a separate task, as in the engine: the search may move between threads.
    let search = client.clone();
    let search = async move { search.find_by_nonces(&nonces(&["vault-abc"]), None).await };
    let found = tokio::spawn(search).await.unwrap().unwrap();
    assert_eq!(found.len(), 1);
    client.delete_key(&found[0].hash).await.unwrap();
    assert!(simulator.account().keys().is_empty());
}
