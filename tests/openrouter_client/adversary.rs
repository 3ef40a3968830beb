//! A malicious OpenRouter, or someone who impersonates it: redirects the key, never ends an answer, lies
//! about its length, and fills the lists.

use std::collections::HashSet;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::openrouter::{Client, Error, KeyHash, Limits, SystemNetwork};

use crate::stub::{Part, Stub, reply};
use crate::{assert_unclear, client, creation_against, new_key, settings};

/// The outcomes of every call.
async fn every_call(client: &Client) -> Vec<(&'static str, Option<Error>)> {
    let hash = KeyHash::parse(&"0".repeat(64)).unwrap();
    let secret = SecretString::from("sk-or-v1-planted-api-key");
    let nonces = HashSet::from(["vault-abc".to_owned()]);
    let limits = Limits::default();
    vec![
        ("create", client.create_key(&new_key("app")).await.err()),
        ("read", client.key(&hash).await.err()),
        ("update", client.update_limits(&hash, &limits).await.err()),
        ("delete", client.delete_key(&hash).await.err()),
        ("list", client.find_by_nonces(&nonces, None).await.err()),
        ("prove", client.current_key(&secret).await.err()),
        ("verify", client.current_management_key().await.err()),
    ]
}

/// A full page of a listing.
fn full_page() -> Vec<Value> {
    let key = |number| json!({ "hash": format!("{number:064x}"), "name": "somebody else's" });
    (0..100).map(key).collect()
}

fn list(keys: &[Value]) -> Part {
    reply("200 OK", "", &json!({ "data": keys }).to_string())
}

/// The result of a search for `vault-abc` if this is the only page.
async fn found_in(page: &str) -> Result<usize, Error> {
    let stub = Stub::start(reply("200 OK", "", page)).await;
    let nonces = HashSet::from(["vault-abc".to_owned()]);
    let found = client(&stub.url()).find_by_nonces(&nonces, None).await;
    found.map(|keys| keys.len())
}

#[tokio::test]
async fn no_call_follows_a_redirect_and_the_key_stays_here() {
    let elsewhere = Stub::start(reply("200 OK", "", "{}")).await;
    for status in [
        "300 Multiple Choices",
        "301 Moved Permanently",
        "302 Found",
        "303 See Other",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let location = format!("Location: {}/keys\r\n", elsewhere.url());
        let stub = Stub::start(reply(status, &location, "")).await;
        for (call, error) in every_call(&client(&stub.url())).await {
            let error = error.unwrap_or_else(|| panic!("{call} takes {status} for an answer"));
            assert_unclear(&error, "redirects are not followed");
        }
        assert_eq!(stub.received().len(), 7, "{status}: one request each");
    }
    assert!(elsewhere.received().is_empty());
}

#[tokio::test]
async fn a_body_without_end_is_given_up_for_its_size() {
    for status in ["201 Created", "400 Bad Request", "500 Oops"] {
        let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n");
        let error = creation_against(Part::Endless(head, "                ")).await;
        // An answer that reaches the time limit has a different message.
        assert_unclear(&error, "the body does not end");
    }
}

#[tokio::test]
async fn a_head_without_end_is_given_up_for_its_size() {
    let head = "HTTP/1.1 201 Created\r\n".to_owned();
    let error = creation_against(Part::Endless(head, "X-More: of the same\r\n")).await;
    // The same applies here.
    assert_unclear(&error, "the connection was lost before an answer came");
}

#[tokio::test]
async fn an_answer_that_is_always_about_to_come_ends_with_the_time_limit() {
    let stub = Stub::start(Part::Endless(
        String::new(),
        "HTTP/1.1 100 Continue\r\n\r\n",
    ))
    .await;
    let mut settings = settings(&stub.url());
    settings.request_timeout = Duration::from_secs(4);
    let client = Client::new(&settings, &SystemNetwork).unwrap();
    let error = client.create_key(&new_key("app")).await.unwrap_err();
    assert_unclear(&error, "did not answer within the request timeout");
}

#[tokio::test]
async fn what_a_body_is_called_does_not_matter_but_what_it_is_does() {
    let refusal = r#"{"error":{"code":402,"message":"Insufficient credits"}}"#;
    for content_type in [
        "text/html",
        "image/png",
        "application/json; charset=utf-16",
        "",
    ] {
        let header = format!("Content-Type: {content_type}\r\n");
        let error = creation_against(reply("402 Payment Required", &header, refusal)).await;
        assert!(
            matches!(error, Error::Refused { status: 402, .. }),
            "{error:?}"
        );
    }
    let json = "Content-Type: application/json\r\n";
    let with_mark = format!("\u{feff}{refusal}");
    let twice = format!("{refusal}{refusal}");
    for body in ["<html></html>", "", "null", "[]", &with_mark, &twice] {
        for status in ["402 Payment Required", "201 Created"] {
            let error = creation_against(reply(status, json, body)).await;
            assert!(matches!(error, Error::Unclear { .. }), "{body}: {error:?}");
        }
    }
}

#[tokio::test]
async fn json_without_bottom_is_refused_and_breaks_nothing() {
    let deep = "[".repeat(1_000_000);
    let page = format!(r#"{{"data":[{{"name":"somebody else's","odd":{deep}"#);
    assert_unclear(
        &found_in(&page).await.unwrap_err(),
        "not what the API documents",
    );
    let error = creation_against(reply("201 Created", "", &page)).await;
    assert_unclear(&error, "not what the API documents");
}

#[tokio::test]
async fn keys_of_others_do_not_hide_ours_however_odd_they_are() {
    let page = json!({ "data": [
        { "hash": 5, "name": "a number for a hash" },
        { "hash": "zz", "name": "no hexadecimal digits", "limit": "five", "disabled": "no" },
        { "hash": "0".repeat(64), "name": "ours, almost: vault-abcd", "expires_at": [] },
        { "hash": "1".repeat(64), "name": "app vault-abc" },
        { "name": null },
        { "name": "vault-abc and more", "hash": { "vault-abc": true } },
    ]});
    assert_eq!(found_in(&page.to_string()).await, Ok(1));
}

#[tokio::test]
async fn a_key_that_may_be_ours_and_cannot_be_read_is_not_overlooked() {
    for key in [
        json!({ "name": "app vault-abc" }),
        json!({ "name": "app vault-abc", "hash": "../keys" }),
        json!({ "name": ["app vault-abc"], "hash": "0".repeat(64) }),
        json!("app vault-abc"),
    ] {
        let page = json!({ "data": [key] }).to_string();
        let found = found_in(&page).await;
        assert!(
            matches!(found, Err(Error::Unclear { .. })),
            "{page}: {found:?}"
        );
    }
}

#[tokio::test]
async fn a_list_that_shows_the_same_page_for_ever_is_given_up_at_the_second() {
    let stub = Stub::start(list(&full_page())).await;
    let nonces = HashSet::from(["vault-abc".to_owned()]);
    let found = client(&stub.url()).find_by_nonces(&nonces, None).await;
    assert_unclear(&found.unwrap_err(), "only repeats the one before");
    assert_eq!(stub.received().len(), 2);
}

#[tokio::test]
async fn an_answer_about_another_key_than_was_asked_for_is_no_answer() {
    let other = json!({ "data": { "hash": "1".repeat(64), "name": "another" } });
    let stub = Stub::start(reply("200 OK", "", &other.to_string())).await;
    let client = client(&stub.url());
    let hash = KeyHash::parse(&"0".repeat(64)).unwrap();
    let read = client.key(&hash).await.unwrap_err();
    assert_unclear(&read, "the answer is about another key");
    let updated = client.update_limits(&hash, &Limits::default()).await;
    assert_unclear(&updated.unwrap_err(), "the answer is about another key");
}
