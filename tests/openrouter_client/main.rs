//! The OpenRouter client from outside: against the simulator, and against servers that misbehave in ways that
//! no API does.

#![expect(
    clippy::unwrap_used,
    reason = "a test whose surroundings cannot be set up has failed"
)]

mod adversary;
mod api;
#[path = "../support/egress.rs"]
mod egress;
mod finding;
mod guardrails;
mod network;
mod proxy;
mod stub;
mod tls;

use std::time::Duration;

use openrouter_simulator::{Options, Simulator};
use secrecy::SecretString;
use vault_plugin_secrets_openrouter::openrouter::{
    ApiUrl, Client, Error, Limits, NewKey, Settings, SystemNetwork,
};

use self::stub::{Part, Stub};

/// Secrets that no error, log or `Debug` output may show.
const MANAGEMENT_KEY: &str = "sk-or-v1-planted-management-key";

/// Long enough for a busy machine, short enough to detect an endless wait.
const PATIENCE: Duration = Duration::from_secs(60);

fn settings(api_url: &str) -> Settings {
    Settings {
        api_url: ApiUrl::parse(api_url).unwrap(),
        management_key: SecretString::from(MANAGEMENT_KEY),
        request_timeout: PATIENCE,
        ca_certificate: None,
        proxy_url: None,
    }
}

fn client(api_url: &str) -> Client {
    Client::new(&settings(api_url), &SystemNetwork).unwrap()
}

async fn simulator() -> (Simulator, Client) {
    let options = Options {
        management_keys: vec![MANAGEMENT_KEY.to_owned()],
        ..Options::default()
    };
    let simulator = Simulator::start(options).await.unwrap();
    let client = client(&simulator.base_url());
    (simulator, client)
}

fn new_key(name: &str) -> NewKey {
    NewKey {
        name: name.to_owned(),
        limits: Limits::default(),
        expires_at: None,
        workspace_id: None,
        creator_user_id: None,
    }
}

/// The error of a creation against a server with this behavior.
async fn creation_against(part: Part) -> Error {
    let stub = Stub::start(part).await;
    let error = client(&stub.url())
        .create_key(&new_key("app"))
        .await
        .unwrap_err();
    let requests = stub.received().len();
    assert!(
        requests <= 1,
        "a creation must not be repeated, but was sent {requests} times"
    );
    error
}

/// Checks that the error leaves it open whether the request took effect, and shows no secret.
#[track_caller]
fn assert_unclear(error: &Error, reason: &str) {
    assert!(matches!(error, Error::Unclear { .. }), "{error:?}");
    assert!(!error.is_definite());
    assert!(error.to_string().contains(reason), "{error}");
    assert_no_secret(error);
}

/// Checks that the error says that nothing was sent, and shows no secret.
#[track_caller]
fn assert_unreachable(error: &Error, cause: &str) {
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.is_definite());
    assert!(error.to_string().contains(cause), "{error}");
    assert_no_secret(error);
}

#[track_caller]
fn assert_no_secret(error: &Error) {
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("planted"), "{shown}");
    assert!(!shown.contains('\n'), "{shown}");
}
