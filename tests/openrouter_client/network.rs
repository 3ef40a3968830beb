//! Failing networks and servers: what is certain afterwards, and what is not.

use std::time::Duration;

use tokio::net::TcpSocket;
use vault_plugin_secrets_openrouter::openrouter::{Client, Error, Invalid, KeyHash, SystemNetwork};

use crate::stub::{Part, Stub, reply};
use crate::{
    MANAGEMENT_KEY, assert_no_secret, assert_unclear, assert_unreachable, client, creation_against,
    new_key, settings,
};

const REFUSAL: &str = r#"{"error":{"code":400,"message":"Invalid request parameters"}}"#;

#[tokio::test]
async fn a_refused_connection_means_that_nothing_was_sent() {
    // Bound, so that no other process gets the port, but not listening.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let url = format!("http://{}/api/v1", socket.local_addr().unwrap());
    let error = client(&url).create_key(&new_key("app")).await.unwrap_err();
    assert_unreachable(&error, "Connection refused");
    assert!(error.to_string().contains(&url), "{error}");
}

#[tokio::test]
async fn a_host_that_does_not_exist_means_that_nothing_was_sent() {
    // RFC 6761 reserves the name. If name resolution itself is unreachable, it times out.
    let mut settings = settings("https://openrouter.invalid/api/v1");
    settings.request_timeout = Duration::from_secs(4);
    let client = Client::new(&settings, &SystemNetwork).unwrap();
    let error = client.create_key(&new_key("app")).await.unwrap_err();
    assert_unreachable(&error, "openrouter.invalid");
}

#[tokio::test]
async fn a_tls_handshake_that_does_not_come_about_means_that_nothing_was_sent() {
    let silent = Stub::start(Part::Silence).await;
    let mut settings = settings(&format!("https://127.0.0.1:{}", silent.port()));
    settings.request_timeout = Duration::from_secs(4);
    let client = Client::new(&settings, &SystemNetwork).unwrap();
    let error = client.create_key(&new_key("app")).await.unwrap_err();
    assert_unreachable(&error, "timed out");
}

#[tokio::test]
async fn a_server_that_never_answers_leaves_it_unclear() {
    let stub = Stub::start(Part::Silence).await;
    let mut settings = settings(&stub.url());
    settings.request_timeout = Duration::from_secs(4);
    let client = Client::new(&settings, &SystemNetwork).unwrap();
    let error = client.create_key(&new_key("app")).await.unwrap_err();
    assert_unclear(&error, "did not answer within the request timeout");
}

#[tokio::test]
async fn a_connection_reset_before_or_after_the_request_is_read_leaves_it_unclear() {
    // The client cannot tell the two apart.
    for part in [Part::ResetUnread, Part::ResetAfterRequest] {
        let error = creation_against(part).await;
        assert_unclear(&error, "the connection was lost before an answer came");
    }
}

#[tokio::test]
async fn a_connection_closed_without_an_answer_leaves_it_unclear() {
    let error = creation_against(Part::Reply(String::new())).await;
    assert_unclear(&error, "the connection was lost before an answer came");
}

#[tokio::test]
async fn an_answer_that_is_not_http_leaves_it_unclear() {
    let error = creation_against(Part::Reply("SSH-2.0-OpenSSH_9.9\r\n".to_owned())).await;
    assert_unclear(&error, "the connection was lost before an answer came");
}

#[tokio::test]
async fn a_page_of_a_gateway_leaves_it_unclear() {
    let page = "<html><body>502 Bad Gateway</body></html>";
    let error = creation_against(reply("502 Bad Gateway", "Retry-After: 9\r\n", page)).await;
    assert_unclear(&error, "status 502: the body is not OpenRouter's");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(9)));
    let error = creation_against(reply("403 Forbidden", "", page)).await;
    assert_unclear(&error, "status 403: the body is not OpenRouter's");
}

#[tokio::test]
async fn a_rate_limit_of_the_front_is_definite_even_if_its_page_is_cut_off() {
    let cut = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\nContent-Length: 99\r\n\r\n<ht";
    let error = creation_against(Part::Reply(cut.to_owned())).await;
    assert!(matches!(error, Error::RateLimited { .. }), "{error:?}");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
}

#[tokio::test]
async fn a_refusal_whose_body_breaks_off_is_unclear() {
    let head = "HTTP/1.1 400 Bad Request\r\nContent-Length: 1000\r\n\r\n";
    let error = creation_against(Part::Reply(format!("{head}{REFUSAL}"))).await;
    assert_unclear(&error, "status 400: the body broke off");
    let whole = creation_against(reply("400 Bad Request", "", REFUSAL)).await;
    assert!(
        matches!(whole, Error::Refused { status: 400, .. }),
        "{whole:?}"
    );
}

#[tokio::test]
async fn a_body_that_stops_arriving_is_unclear() {
    let beginning = "HTTP/1.1 201 Created\r\nContent-Length: 1000\r\n\r\n{";
    let stub = Stub::start(Part::Stall(beginning.to_owned())).await;
    let mut settings = settings(&stub.url());
    settings.request_timeout = Duration::from_secs(4);
    let client = Client::new(&settings, &SystemNetwork).unwrap();
    let error = client.create_key(&new_key("app")).await.unwrap_err();
    assert_unclear(
        &error,
        "status 201: the body did not arrive within the request timeout",
    );
}

#[tokio::test]
async fn a_deletion_that_says_it_deleted_nothing_is_unclear() {
    let stub = Stub::start(reply("200 OK", "", r#"{"deleted":false}"#)).await;
    let hash = KeyHash::parse(&"0".repeat(64)).unwrap();
    let error = client(&stub.url()).delete_key(&hash).await.unwrap_err();
    assert_unclear(&error, "nothing was deleted");
}

#[tokio::test]
async fn a_success_without_a_key_in_it_is_unclear() {
    let hash = "0".repeat(64);
    for body in [
        format!(r#"{{"data":{{"hash":"{hash}"}}}}"#),
        String::new(),
        "{}".to_owned(),
    ] {
        let error = creation_against(reply("201 Created", "", &body)).await;
        assert!(matches!(error, Error::Unclear { .. }), "{body}: {error:?}");
    }
}

#[tokio::test]
async fn a_server_that_echoes_the_key_does_not_get_it_into_the_message() {
    let body = r#"{"error":{"code":400,"message":"no such key: sk-or-v1-planted-management-key"}}"#;
    let error = creation_against(reply("400 Bad Request", "", body)).await;
    assert!(
        error.to_string().ends_with("no such key: [redacted]"),
        "{error}"
    );
    assert_no_secret(&error);
}

#[tokio::test]
async fn a_request_names_its_sender_and_its_bearer_and_has_no_trailing_slash() {
    let stub = Stub::start(reply("400 Bad Request", "", REFUSAL)).await;
    let url = format!("{}/api/v1/", stub.url());
    client(&url).create_key(&new_key("app")).await.unwrap_err();
    let request = stub.received().remove(0);
    assert!(
        request.starts_with("POST /api/v1/keys HTTP/1.1\r\n"),
        "{request}"
    );
    for header in [
        format!("authorization: Bearer {MANAGEMENT_KEY}\r\n"),
        format!(
            "user-agent: vault-plugin-secrets-openrouter/{}\r\n",
            env!("CARGO_PKG_VERSION")
        ),
        "content-type: application/json\r\n".to_owned(),
    ] {
        assert!(request.contains(&header), "{request}");
    }
}

#[test]
fn a_time_limit_of_zero_or_an_impossible_key_makes_no_client() {
    let mut timeless = settings("http://127.0.0.1");
    timeless.request_timeout = Duration::ZERO;
    assert_eq!(
        Client::new(&timeless, &SystemNetwork).unwrap_err(),
        Invalid::RequestTimeout
    );
    let mut keyless = settings("http://127.0.0.1");
    keyless.management_key = "two words".to_owned().into();
    assert_eq!(
        Client::new(&keyless, &SystemNetwork).unwrap_err(),
        Invalid::ManagementKey
    );
}
