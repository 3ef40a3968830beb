//! Proxies: only the configured one is used.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use vault_plugin_secrets_openrouter::openrouter::{
    CaBundle, Client, Error, Invalid, ProxyUrl, Settings, SystemNetwork,
};

use crate::egress::EgressProxy;
use crate::stub::{Stub, reply};
use crate::tls::tls_stub;
use crate::{
    MANAGEMENT_KEY, assert_no_secret, assert_unreachable, client, new_key, settings, simulator,
};

const REFUSAL: &str = r#"{"error":{"code":402,"message":"Insufficient credits"}}"#;

/// Settings to reach `api_url` through the proxy with this URL.
fn through(proxy_url: &str, api_url: &str, trusted: CaBundle) -> Settings {
    Settings {
        ca_certificate: Some(trusted),
        proxy_url: Some(ProxyUrl::parse(proxy_url).unwrap()),
        ..settings(api_url)
    }
}

#[tokio::test]
async fn a_configured_proxy_is_used_with_its_credentials_and_sees_no_key() {
    let (stub, bundle) = tls_stub(reply("402 Payment Required", "", REFUSAL)).await;
    let proxy = EgressProxy::passing().await;
    let url = format!("https://127.0.0.1:{}", stub.port());
    let client = Client::new(&through(&proxy.url(), &url, bundle), &SystemNetwork).unwrap();

    let error = client.create_key(&new_key("app")).await.unwrap_err();
    assert!(
        matches!(error, Error::Refused { status: 402, .. }),
        "{error:?}"
    );
    assert!(stub.received()[0].contains(MANAGEMENT_KEY));
    let seen = proxy.requests();
    assert_eq!(seen.len(), 1);
    assert!(seen[0].starts_with("CONNECT 127.0.0.1:") && !seen[0].contains(MANAGEMENT_KEY));
}

#[tokio::test]
async fn a_proxy_that_is_reached_over_tls_needs_a_certificate_that_is_trusted() {
    let (stub, bundle) = tls_stub(reply("402 Payment Required", "", REFUSAL)).await;
    let proxy = EgressProxy::passing_behind_tls().await;
    let url = format!("https://127.0.0.1:{}", stub.port());
    let both = format!("{}{}", bundle.as_pem(), proxy.authority());
    let both = CaBundle::parse(&both).unwrap();
    let trusting = Client::new(&through(&proxy.url(), &url, both), &SystemNetwork).unwrap();
    let error = trusting.create_key(&new_key("app")).await.unwrap_err();
    assert!(
        matches!(error, Error::Refused { status: 402, .. }),
        "{error:?}"
    );

    let wary = Client::new(&through(&proxy.url(), &url, bundle), &SystemNetwork).unwrap();
    let error = wary.create_key(&new_key("app")).await.unwrap_err();
    assert_unreachable(&error, "certificate");
    assert_eq!((stub.received().len(), proxy.requests().len()), (1, 1));
}

#[tokio::test]
async fn a_proxy_that_wants_other_credentials_means_that_nothing_was_sent() {
    let (stub, bundle) = tls_stub(reply("402 Payment Required", "", REFUSAL)).await;
    let proxy = EgressProxy::passing().await;
    let url = format!("https://127.0.0.1:{}", stub.port());
    let wrong = proxy.url_with("vault:planted-password");
    let client = Client::new(&through(&wrong, &url, bundle), &SystemNetwork).unwrap();

    let error = client.create_key(&new_key("app")).await.unwrap_err();
    assert_unreachable(&error, "proxy authorization required");
    let through = format!("through the proxy http://{}, nothing", proxy.address());
    assert!(error.to_string().contains(&through), "{error}");
    assert!(stub.received().is_empty());
}

#[tokio::test]
async fn a_proxy_that_opens_tls_is_talked_through_only_if_its_authority_is_trusted() {
    let (simulator, _) = simulator().await;
    let proxy = EgressProxy::opening(simulator.address()).await;
    // Only the proxy resolves the name.
    let url = "https://openrouter.invalid/api/v1";
    let authority = CaBundle::parse(proxy.authority()).unwrap();
    let trusting = Client::new(&through(&proxy.url(), url, authority), &SystemNetwork).unwrap();
    let created = trusting.create_key(&new_key("app")).await.unwrap();
    assert_eq!(
        simulator.account().keys()[0].hash,
        created.key.hash.as_str()
    );
    assert_eq!(proxy.targets(), ["openrouter.invalid:443"]);

    let (_stub, another) = tls_stub(reply("200 OK", "", "{}")).await;
    let wary = Client::new(&through(&proxy.url(), url, another), &SystemNetwork).unwrap();
    let error = wary.create_key(&new_key("app")).await.unwrap_err();
    assert_unreachable(&error, "certificate");
    assert_eq!(simulator.account().keys().len(), 1);
}

#[tokio::test]
async fn a_proxy_that_repeats_what_it_was_sent_is_not_quoted_with_it() {
    let header = STANDARD.encode("vault:pl@nted");
    let message = format!("not {header}, not pl@nted, not pl%40nted, not {MANAGEMENT_KEY}");
    let body = format!(r#"{{"error":{{"code":407,"message":"{message}"}}}}"#);
    let proxy = Stub::start(reply("407 Proxy Authentication Required", "", &body)).await;
    let mut settings = settings("http://127.0.0.1:1");
    let url = format!("http://vault:pl%40nted@127.0.0.1:{}", proxy.port());
    settings.proxy_url = Some(ProxyUrl::parse(&url).unwrap());
    let client = Client::new(&settings, &SystemNetwork).unwrap();

    let error = client.create_key(&new_key("app")).await.unwrap_err();
    assert!(proxy.received()[0].contains(&header), "it was sent");
    let quoted = "not [redacted], not [redacted], not [redacted], not [redacted]";
    assert!(error.to_string().ends_with(quoted), "{error}");
}

#[tokio::test]
async fn a_proxy_on_another_host_must_not_read_plain_requests() {
    let mut settings = settings("http://127.0.0.1:1");
    settings.proxy_url = Some(ProxyUrl::parse("http://planted@proxy.example:3128").unwrap());
    let error = Client::new(&settings, &SystemNetwork).unwrap_err();
    assert_eq!(error, Invalid::PlainHttpThroughProxy);
    settings.proxy_url = Some(ProxyUrl::parse("http://127.0.0.1:3128").unwrap());
    assert!(Client::new(&settings, &SystemNetwork).is_ok());
}

/// Runs itself again in an environment that names a proxy, as Vault's own environment may.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_in_the_environment_is_ignored() {
    if let Ok(url) = std::env::var(CHILD) {
        let error = client(&url).create_key(&new_key("app")).await.unwrap_err();
        assert!(
            matches!(error, Error::Refused { status: 402, .. }),
            "{error:?}"
        );
        assert_no_secret(&error);
        return;
    }
    let stub = Stub::start(reply("402 Payment Required", "", REFUSAL)).await;
    let proxy = Stub::start(reply("500 Internal Server Error", "", "")).await;
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "proxy::a_proxy_in_the_environment_is_ignored"]);
    for name in [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ] {
        child.env(name, proxy.url());
    }
    child
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .env_remove("REQUEST_METHOD");
    child.env(CHILD, stub.url());
    let output = tokio::task::spawn_blocking(move || child.output())
        .await
        .unwrap()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && log.contains("1 passed"), "{log}");
    assert_eq!((stub.received().len(), proxy.received().len()), (1, 0));
}

/// The server's address for the second run.
const CHILD: &str = "OPENROUTER_CLIENT_TEST_URL";
