//! Secrets appear only in the answers that hand them out. Recognizable secrets are planted wherever a secret
//! can be, the engine is used in every way, and OpenRouter fails in every way, with server and plugin at the
//! most verbose log level. Then all output is searched.

mod memory;
mod places;
mod planted;
mod witness;

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{Client, Mount, PLUGIN_NAME, Vault};
use places::Places;
use planted::Planted;
use witness::{Witness, faults};

#[tokio::test]
async fn a_planted_secret_is_found_in_no_place_but_the_answer_that_hands_it_out() {
    let (vault, audit_log) = Vault::talkative().await;
    let client = holder_of_a_planted_token(&vault.client()).await;
    let mount = Mount::of(PLUGIN_NAME, client.clone()).await;
    let mut witness = Witness::new(&mount, connection(&mount));

    witness.uses_everything_while(None).await;
    // A teardown that was cancelled has left the role without a key until its next rotation.
    let any_key = mount.key_soon("app").await;
    witness.mistakes(mistakes(&mount, &any_key)).await;
    let echo = format!(
        "Authorization: Bearer {}, x-key: {any_key}, Proxy-Authorization: Basic {}, {PROXY_PASSWORD}",
        mount.openrouter.management_key(),
        STANDARD.encode(format!("{PROXY_USER}:{PROXY_PASSWORD}")),
    );
    for fault in faults(&echo) {
        witness.uses_everything_while(Some(fault)).await;
    }
    witness.uses_everything_while(None).await;
    document(&mut witness, &mount).await;
    let Witness {
        mut places,
        handed_out,
        ..
    } = witness;

    processes(&mut places, &vault);
    for name in ["tmp", "home"] {
        places.add_files("files", &vault.directory().path(name));
    }
    storage(&mut places, &client, "").await;
    let metrics = client.read("sys/metrics").await.ok();
    places.add("metrics", "sys/metrics", metrics.json().to_string());
    // The role's rotations are in progress until then.
    mount.disable().await.ok();
    logs(
        &mut places,
        &vault,
        &fs::read_to_string(&audit_log).expect("an audit log"),
    );

    let planted = planted(&mount, &client);
    let counts = places.counts();
    let total: usize = counts.values().sum();
    println!(
        "{} secrets were looked for in {total} places: {counts:?}",
        planted.count()
    );
    assert_eq!(places.with(&planted), Vec::<String>::new());
    for kind in [
        "answers",
        "errors",
        "lists",
        "help pages",
        "OpenAPI documents",
        "audit log",
        "server log",
        "plugin's log",
        "processes",
        "metrics",
        "files",
        "storage",
    ] {
        assert!(
            counts.contains_key(kind),
            "there was nothing to search: {kind}"
        );
    }
    // The same search finds a secret that is there.
    let answers: usize = handed_out.counts().values().sum();
    assert!(answers > 0, "no key was handed out");
    assert_eq!(handed_out.with(&planted).len(), answers);
}

/// A client that may do everything. Its token is one of the secrets that are searched for.
async fn holder_of_a_planted_token(root: &Client) -> Client {
    let body = json!({"id": TOKEN, "policies": ["root"]});
    root.write("auth/token/create", body).await.ok();
    root.with_token(TOKEN)
}

/// A connection with a secret in every field that can hold one. The simulator is its own proxy.
fn connection(mount: &Mount) -> Value {
    let mut connection = mount.connection();
    let url = connection["api_url"].as_str().expect("a URL");
    let host = url.trim_start_matches("http://").split('/').next();
    let host = host.expect("a host and a port");
    connection["proxy_url"] = format!("http://{PROXY_USER}:{PROXY_PASSWORD}@{host}").into();
    connection
}

/// Secrets where they do not belong, or of the wrong kind. Each is rejected.
fn mistakes(mount: &Mount, api_key: &str) -> Vec<(&'static str, Value)> {
    let config = |field: &str, value: Value| {
        let mut connection = mount.connection();
        connection[field] = value;
        ("config", connection)
    };
    let certified = rcgen::generate_simple_self_signed([String::from("localhost")]);
    let certificate = STANDARD.encode(certified.expect("a certificate").cert.der());
    let key_file = format!(
        "-----BEGIN CERTIFICATE-----\n{certificate}\n-----END CERTIFICATE-----\n\
         -----BEGIN PRIVATE KEY-----\n{CA_KEY}\n-----END PRIVATE KEY-----\n"
    );
    vec![
        config("management_key", WRONG_MANAGEMENT_KEY.into()),
        config(
            "management_key",
            format!("{WRONG_MANAGEMENT_KEY} two words").into(),
        ),
        config("management_key", json!([WRONG_MANAGEMENT_KEY])),
        config("management_key", json!({"key": WRONG_MANAGEMENT_KEY})),
        config("management_key", api_key.into()),
        config(
            "api_url",
            format!("https://{PROXY_USER}:{PROXY_PASSWORD}@openrouter.ai").into(),
        ),
        config(
            "api_url",
            format!("https://openrouter.ai/?key={WRONG_MANAGEMENT_KEY}").into(),
        ),
        config(
            "proxy_url",
            format!("socks5://{PROXY_USER}:{PROXY_PASSWORD}@127.0.0.1:9").into(),
        ),
        config(
            "proxy_url",
            format!("http://{PROXY_USER}:{PROXY_PASSWORD}@127.0.0.1:9").into(),
        ),
        config(
            "proxy_url",
            format!("http://{PROXY_USER}:{PROXY_PASSWORD}@proxy.example").into(),
        ),
        config("ca_certificate", key_file.into()),
        ("roles/app", json!({"limit": WRONG_MANAGEMENT_KEY})),
        ("roles/app", json!({"ttl": WRONG_MANAGEMENT_KEY})),
        ("roles/app", json!({"workspace_id": WRONG_MANAGEMENT_KEY})),
        (
            "roles/app",
            json!({"connection": format!("{WRONG_MANAGEMENT_KEY}/")}),
        ),
        (
            "rotate-role/app",
            json!({"rotation_grace_period": WRONG_MANAGEMENT_KEY}),
        ),
        ("lookup", json!({"key_hash": api_key})),
        ("restore-key/app", json!({"key_version": api_key})),
        ("roles/adopted", json!({"api_key": WRONG_MANAGEMENT_KEY})),
    ]
}

/// Help for every path, and the OpenAPI document, which also shows whether an operation was forgotten.
async fn document(witness: &mut Witness<'_>, mount: &Mount) {
    for path in [
        "",
        "config",
        "config/second",
        "roles",
        "roles/app",
        "creds/app",
        "static-creds/app",
        "rotate-role/app",
        "restore-key/app",
        "usage/app",
        "keys/default",
        "lookup",
        "rotate-all/default",
        "tidy/default",
        "teardown",
        "status",
        "metrics",
    ] {
        witness.keep(mount.help(path).await.ok());
    }
    let document = mount.client().read("sys/internal/specs/openapi").await.ok();
    let prefix = format!("/{}", mount.at(""));
    for (path, item) in document.json()["paths"].as_object().expect("paths") {
        let Some(path) = path.strip_prefix(&prefix) else {
            continue;
        };
        for (name, method) in [
            ("get", "GET"),
            ("post", "POST"),
            ("patch", "PATCH"),
            ("delete", "DELETE"),
        ] {
            let (path, method) = match path.strip_suffix('/') {
                Some(list) => (list, "LIST"),
                None => (path, method),
            };
            if item.get(name).is_some() {
                assert!(witness.asked(method, path), "{method} {path} was not tried");
            }
        }
    }
    let text = document.json().to_string();
    witness
        .places
        .add("OpenAPI documents", "sys/internal/specs/openapi", text);
}

fn processes(places: &mut Places, vault: &Vault) {
    for plugin in vault.plugin_processes() {
        for name in ["cmdline", "environ", "comm", "status"] {
            places.add("processes", name, plugin.file(name));
        }
        for file in plugin.open_files() {
            let name = file.display().to_string();
            places.add("processes", &name, name.clone());
        }
    }
}

/// The storage keys of everything that the server stores. The values are encrypted.
async fn storage(places: &mut Places, client: &Client, folder: &str) {
    let names: Vec<String> = client.list(&format!("sys/raw/{folder}")).await.keys();
    for name in names {
        let key = format!("{folder}{name}");
        places.add("storage", &key, key.clone());
        if key.ends_with('/') {
            Box::pin(storage(places, client, &key)).await;
        }
    }
}

fn logs(places: &mut Places, vault: &Vault, audited: &str) {
    let log = vault.log();
    let (plugins, servers): (Vec<&str>, Vec<&str>) =
        log.lines().partition(|line| line.contains(PLUGIN_NAME));
    assert!(
        plugins
            .iter()
            .any(|line| line.contains("[TRACE]") && line.contains("announced")),
        "the plugin logs everything"
    );
    places.add_lines("plugin's log", &plugins.join("\n"));
    places.add_lines("server log", &servers.join("\n"));
    places.add_lines("audit log", audited);
}

/// Every secret that was used anywhere.
fn planted(mount: &Mount, client: &Client) -> Planted {
    let mut planted = Planted::default();
    planted.plant("the server's token", client.token());
    planted.plant("the management key", mount.openrouter.management_key());
    planted.plant("the wrong management key", WRONG_MANAGEMENT_KEY);
    planted.plant("the proxy's user", PROXY_USER);
    planted.plant("the proxy's password", PROXY_PASSWORD);
    planted.plant("the CA's private key", CA_KEY);
    for key in mount.openrouter.account().all_keys() {
        planted.plant(&format!("the API key {}", key.name), key.secret());
    }
    planted
}

const TOKEN: &str = "planted-token-5c1fJ8qXw2LrT0vN7bYk";
const WRONG_MANAGEMENT_KEY: &str = "sk-or-v1-planted-wrong-Qm4ZtR9xVb2KcWs6";
const PROXY_USER: &str = "planted-user-hG5nPd3aYu8E";
const PROXY_PASSWORD: &str = "planted-password-Lk7BzX1oCf4M";
const CA_KEY: &str = "MC4CAQAwBQYDK2VwBCIEIPlantedCaKeyTn6SgDq9HwRj0Ab";
