//! The calls, against the simulator: what they do, and the meaning of refusals.

use std::time::Duration;

use openrouter_simulator::Fault;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use vault_plugin_secrets_openrouter::openrouter::{
    Bearer, Client, Deletion, Error, KeyHash, LimitReset, Limits, NewKey, SystemNetwork, Usd,
    WorkspaceId,
};

use crate::{
    MANAGEMENT_KEY, assert_no_secret, assert_unclear, client, new_key, settings, simulator,
};

fn limits() -> Limits {
    Limits {
        limit: Some(Usd::new(25.0).unwrap()),
        reset: Some(LimitReset::Monthly),
        include_byok: true,
    }
}

#[tokio::test]
async fn a_created_key_is_what_was_asked_for_and_proves_itself() {
    let (simulator, client) = simulator().await;
    let workspace = WorkspaceId::parse(&simulator.account().add_workspace()).unwrap();
    let asked = NewKey {
        name: "app 2026-11-20 vault-abc".to_owned(),
        limits: limits(),
        expires_at: Some("2099-12-31T23:59:59Z".parse().unwrap()),
        workspace_id: Some(workspace.clone()),
        creator_user_id: Some("user_2dHF".to_owned()),
    };
    let created = client.create_key(&asked).await.unwrap();

    let key = &created.key;
    assert_eq!(key.hash, KeyHash::of(&created.secret));
    assert_eq!(key.name, asked.name);
    assert!(key.limits.agree_with(&asked.limits), "{:?}", key.limits);
    assert_eq!(key.expires_at, asked.expires_at);
    assert_eq!(key.workspace_id, asked.workspace_id);
    assert_eq!(key.creator_user_id, asked.creator_user_id);
    assert!(!key.disabled && key.created_at.is_some());
    assert_eq!(client.key(&key.hash).await.unwrap(), *key);

    let current = client.current_key(&created.secret).await.unwrap();
    assert!(!current.is_management_key);
    assert_eq!(current.label, key.label);
    assert!(current.limits.agree_with(&asked.limits));
    assert_eq!(current.expires_at, asked.expires_at);

    assert!(!format!("{created:?}").contains(created.secret.expose_secret()));
    let sent = simulator.requests().to("POST", "/keys");
    let expected = json!({
        "name": asked.name, "limit": 25, "limit_reset": "monthly", "include_byok_in_limit": true,
        "expires_at": "2099-12-31T23:59:59Z", "workspace_id": workspace.as_str(),
        "creator_user_id": "user_2dHF",
    });
    assert_eq!(sent[0].body, Some(expected));
}

#[tokio::test]
async fn a_management_key_says_that_it_is_one() {
    let (simulator, client) = simulator().await;
    let expiry = Some("2099-01-01T00:00:00Z".parse().unwrap());
    simulator
        .account()
        .set_management_key_expiry(MANAGEMENT_KEY, expiry)
        .unwrap();
    let current = client.current_management_key().await.unwrap();
    assert!(current.is_management_key);
    assert_eq!(current.expires_at, expiry);
}

#[tokio::test]
async fn changing_limits_sets_them_and_clears_what_is_none() {
    let (simulator, client) = simulator().await;
    let hash = client.create_key(&new_key("app")).await.unwrap().key.hash;

    let limited = client.update_limits(&hash, &limits()).await.unwrap();
    assert!(limited.limits.agree_with(&limits()));
    let free = client
        .update_limits(&hash, &Limits::default())
        .await
        .unwrap();
    assert!(free.limits.agree_with(&Limits::default()));

    let sent = simulator.requests().to("PATCH", "/keys/*");
    let cleared = json!({"limit": null, "limit_reset": null, "include_byok_in_limit": false});
    assert_eq!(sent[1].body, Some(cleared));
}

#[tokio::test]
async fn deleting_an_already_deleted_key_succeeds() {
    let (simulator, client) = simulator().await;
    let hash = client.create_key(&new_key("app")).await.unwrap().key.hash;
    assert_eq!(client.delete_key(&hash).await, Ok(Deletion::Deleted));
    assert_eq!(client.delete_key(&hash).await, Ok(Deletion::AlreadyGone));
    assert!(simulator.account().keys().is_empty());
}

#[tokio::test]
async fn a_404_that_is_not_openrouters_does_not_make_a_key_gone() {
    let (simulator, client) = simulator().await;
    let hash = client.create_key(&new_key("app")).await.unwrap().key.hash;
    let page = Fault::Html {
        status: 404,
        after_effect: false,
    };
    simulator.faults().add(page.on("DELETE", "/keys/*"));
    let error = client.delete_key(&hash).await.unwrap_err();
    assert_unclear(&error, "status 404: the body is not OpenRouter's");
    assert_eq!(simulator.account().keys().len(), 1);
}

#[tokio::test]
async fn an_unknown_key_is_not_found() {
    let (_simulator, client) = simulator().await;
    let hash = KeyHash::of(&SecretString::from("nobody's"));
    let message = String::from("Resource not found");
    let expected = Error::NotFound { message };
    assert_eq!(client.key(&hash).await, Err(expected.clone()));
    let updated = client.update_limits(&hash, &Limits::default()).await;
    assert_eq!(updated, Err(expected));
}

#[tokio::test]
async fn a_refusal_carries_openrouters_status_and_words() {
    let (simulator, client) = simulator().await;
    let error = client.create_key(&new_key("")).await.unwrap_err();
    let shown = error.to_string();
    let start = "OpenRouter refused the request with status 400: Invalid request parameters";
    assert!(shown.starts_with(start), "{shown}");
    assert!(error.is_definite());
    assert!(simulator.account().keys().is_empty());
}

#[tokio::test]
async fn a_management_key_that_is_revoked_or_none_at_all_is_unauthorized() {
    let (simulator, client) = simulator().await;
    let ordinary = client.create_key(&new_key("app")).await.unwrap();
    let mut wrong = settings(&simulator.base_url());
    wrong.management_key = ordinary.secret;
    let wrong = Client::new(&wrong, &SystemNetwork).unwrap();
    assert!(
        !wrong
            .current_management_key()
            .await
            .unwrap()
            .is_management_key
    );
    simulator
        .account()
        .revoke_management_key(MANAGEMENT_KEY)
        .unwrap();

    for client in [client, wrong] {
        let error = client.create_key(&new_key("app")).await.unwrap_err();
        let bearer = Bearer::ManagementKey;
        assert!(
            matches!(&error, Error::Unauthorized { bearer: b, .. } if *b == bearer),
            "{error:?}"
        );
        assert!(error.is_definite());
        assert!(
            error
                .to_string()
                .contains("make sure that it is a management key"),
            "{error}"
        );
        assert_no_secret(&error);
    }
}

#[tokio::test]
async fn an_api_key_that_does_not_work_is_unauthorized_by_itself() {
    let (simulator, client) = simulator().await;
    let created = client.create_key(&new_key("app")).await.unwrap();
    simulator
        .account()
        .delete_key(created.key.hash.as_str())
        .unwrap();
    let error = client.current_key(&created.secret).await.unwrap_err();
    let bearer = Bearer::ApiKey;
    assert!(
        matches!(&error, Error::Unauthorized { bearer: b, .. } if *b == bearer),
        "{error:?}"
    );
    assert!(!error.to_string().contains("management"), "{error}");
    assert!(!error.to_string().contains(created.secret.expose_secret()));
}

#[tokio::test]
async fn a_key_that_no_header_can_hold_is_not_sent() {
    let (simulator, client) = simulator().await;
    let secret = SecretString::from("sk-or-v1-planted\r\nx-injected: 1");
    let error = client.current_key(&secret).await.unwrap_err();
    assert_eq!(error, Error::UnusableKey);
    assert_no_secret(&error);
    assert!(simulator.requests().all().is_empty());
}

#[tokio::test]
async fn a_rate_limit_says_how_long_to_wait() {
    let (simulator, client) = simulator().await;
    simulator
        .faults()
        .add(Fault::rate_limited(7).on("POST", "/keys"));
    let error = client.create_key(&new_key("app")).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    assert!(error.is_definite());
    let shown = error.to_string();
    assert_eq!(
        shown,
        "OpenRouter's rate limit is reached (429): Rate limit exceeded"
    );
}

#[tokio::test]
async fn a_server_error_is_unclear_and_its_wait_is_kept() {
    let (simulator, client) = simulator().await;
    let fault = Fault::Status {
        status: 503,
        message: Some("Try\nlater with sk-or-v1-planted".to_owned()),
        retry_after: Some(40),
        after_effect: true,
    };
    simulator.faults().add(fault.on("POST", "/keys"));
    let error = client.create_key(&new_key("app")).await.unwrap_err();
    assert_unclear(&error, "status 503: Try later with [redacted]");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(40)));
    assert_eq!(simulator.account().keys().len(), 1);
}

#[tokio::test]
async fn every_reply_that_gets_lost_on_the_way_leaves_the_creation_unclear() {
    let html = Fault::Html {
        status: 502,
        after_effect: true,
    };
    for (fault, reason) in [
        (
            Fault::LostReply,
            "the connection was lost before an answer came",
        ),
        (Fault::TruncatedBody, "status 201: the body broke off"),
        (
            Fault::NonsenseJson,
            "status 201: the body is not what the API documents",
        ),
        (Fault::EndlessBody, "status 201: the body does not end"),
        (html, "status 502: the body is not OpenRouter's"),
    ] {
        let (simulator, client) = simulator().await;
        let kind = fault.kind();
        simulator.faults().add(fault.on("POST", "/keys"));
        let error = client.create_key(&new_key("app")).await.unwrap_err();
        assert_unclear(&error, reason);
        assert_eq!(simulator.account().keys().len(), 1, "{kind}");
        let sent = simulator.requests().to("POST", "/keys").len();
        assert_eq!(sent, 1, "{kind}: a creation must not be repeated");
    }
}

#[tokio::test]
async fn a_reply_under_the_wrong_content_type_is_read_all_the_same() {
    let (simulator, client) = simulator().await;
    simulator
        .faults()
        .add(Fault::WrongContentType.on("POST", "/keys"));
    assert!(client.create_key(&new_key("app")).await.is_ok());
}

#[tokio::test]
async fn clones_of_a_client_work_side_by_side() {
    let (simulator, client) = simulator().await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..8 {
        let client = client.clone();
        tasks.spawn(async move { client.create_key(&new_key(&number.to_string())).await });
    }
    assert!(tasks.join_all().await.iter().all(Result::is_ok));
    assert_eq!(simulator.account().keys().len(), 8);
}

#[tokio::test]
async fn a_client_shows_nothing_of_its_key() {
    let shown = format!("{:?}", client("https://openrouter.ai/api/v1"));
    assert_eq!(shown, "Client { .. }");
}
