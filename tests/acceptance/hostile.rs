//! Names at their limits, and paths that try to lead elsewhere. They are sent unchanged: an HTTP client would
//! normalize them first.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Client, Mount, Vault};

#[tokio::test]
async fn a_name_may_be_as_odd_and_as_long_as_the_help_says() {
    let mount = Mount::new().await;
    let longest = "x".repeat(256);
    let names = [
        "a",
        "0",
        "_",
        "A.b-c_D",
        "a--b",
        "a.b",
        "rotate-role",
        "__proto__",
        &longest,
    ];
    for name in names {
        mount
            .role(name, json!({"credential_type": "dynamic"}))
            .await;
        let lease = mount.read(&format!("creds/{name}")).await.ok();
        let named = lease.text("key_name");
        let begins: String = name.chars().take(100).collect();
        assert!(named.starts_with(&begins), "{named}");
    }
    let mut listed = mount.list("roles").await.ok().keys();
    listed.sort();
    let mut expected = names.map(str::to_owned);
    expected.sort();
    assert_eq!(listed, expected);
    for name in names {
        mount.delete(&format!("roles/{name}")).await.ok();
    }
    mount.list("roles").await.absent();
    mount.disable().await.ok();
    assert_eq!(mount.openrouter.hashes(), [""; 0]);
}

#[tokio::test]
async fn an_invalid_name_reaches_nothing() {
    let vault = Vault::dev().await;
    let mount = Mount::on(vault.client()).await;
    mount
        .role("app", json!({"credential_type": "dynamic"}))
        .await;
    let before = (mount.read("config").await.ok(), vault.plugin_processes());
    mount.openrouter.requests().reset();
    let too_long = "x".repeat(257);
    let names = [
        "-a",
        "a-",
        ".a",
        "a.",
        "a..b",
        "..",
        ".",
        "%2e%2e",
        "%2E",
        "a%20b",
        "a%00b",
        "a%0Ab",
        "%C3%A9",
        "%E2%80%AEa",
        "a%2Fb",
        "..%2Fconfig",
        "..%2F..%2Fsys",
        "..%5Cconfig",
        "a/b",
        "a/../../config",
        "/app",
        "./app",
        "app/",
        "app//",
        "app%2F",
        "app;x",
        "app*",
        "*",
        "+",
        "app%3Fhelp=1",
        "app%25",
        "{{name}}",
        "$(id)",
        "'",
        "\"",
        "<x>",
        &too_long,
    ];
    let mut tried = 0;
    for name in names {
        for folder in ["roles", "creds", "static-creds", "rotate-role", "config"] {
            for method in ["GET", "POST", "PATCH", "DELETE", "LIST"] {
                let path = mount.at(&format!("{folder}/{name}"));
                let (status, body) = raw(mount.client(), method, &path).await;
                // Listing a name, or a page about it, reaches nothing.
                assert!(
                    (300..500).contains(&status),
                    "{method} {path}: {status} {body}"
                );
                assert!(!body.contains("sk-or-"), "{method} {path}: {body}");
                tried += 1;
            }
        }
    }
    println!("{tried} requests with names that are none were refused");
    assert_eq!(mount.list("roles").await.ok().keys(), ["app"]);
    assert_eq!(mount.list("config").await.ok().keys(), ["default"]);
    let after = mount.read("config").await.ok();
    assert_eq!(after.data(), before.0.data());
    assert!(
        mount.openrouter.requests().all().is_empty(),
        "OpenRouter was asked"
    );
    assert_eq!(vault.plugin_processes(), before.1, "the plugin lives on");
}

#[tokio::test]
async fn a_path_that_leads_elsewhere_does_not_get_past_a_policy() {
    let mount = Mount::new().await;
    for name in ["app", "other"] {
        mount
            .role(name, json!({"credential_type": "dynamic"}))
            .await;
    }
    let path = format!("sys/policies/acl/{}", mount.path());
    let rule = format!(
        "path \"{}/*\" {{ capabilities = [\"read\"] }}",
        mount.at("creds/app")
    );
    let only = format!(
        "path \"{}\" {{ capabilities = [\"read\"] }}",
        mount.at("creds/app")
    );
    let policy = json!({"policy": format!("{rule}\n{only}")});
    mount.client().write(&path, policy).await.ok();
    let token = json!({"policies": [mount.path()]});
    let token = mount.client().write("auth/token/create", token).await.ok();
    let token = token.json()["auth"]["client_token"]
        .as_str()
        .expect("a token");
    let reader = mount.client().with_token(token);
    reader.read(&mount.at("creds/app")).await.ok();
    for path in [
        "creds/app/../other",
        "creds/app/..%2Fother",
        "creds/app/%2e%2e/other",
        "creds/app%2F..%2Fother",
        "creds/app/../../config",
        "creds/app//other",
        "creds//other",
        "creds/./other",
        "creds/app/./../other",
        "creds/other%00",
        "creds/app%00/../other",
        "/creds/other",
        "../creds/other",
    ] {
        let (status, body) = raw(&reader, "GET", &mount.at(path)).await;
        assert!((300..500).contains(&status), "{path}: {status} {body}");
        assert!(!body.contains("api_key"), "{path}: {body}");
    }
    assert_eq!(mount.openrouter.hashes().len(), 1);
}

/// Sends a request line unchanged. Returns the status and the body.
async fn raw(client: &Client, method: &str, path: &str) -> (u16, String) {
    let host = client.address().trim_start_matches("http://");
    let mut stream = TcpStream::connect(host).await.expect("a connection");
    let body = match method {
        "POST" | "PATCH" => json!({"description": "hostile"}),
        _ => Value::Null,
    };
    let (body, kind) = match body {
        Value::Null => (String::new(), "application/json"),
        body => (body.to_string(), "application/merge-patch+json"),
    };
    let request = format!(
        "{method} /v1/{path} HTTP/1.1\r\nHost: {host}\r\nX-Vault-Token: {}\r\nContent-Type: {kind}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        client.token(),
        body.len()
    );
    stream
        .write_all(request.as_bytes())
        .await
        .expect("the server reads");
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .await
        .expect("the server answers");
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (status.expect("a status"), body.to_owned())
}
