//! The API of a cluster as tests use it, with all permissions.

use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use reqwest::{Certificate, Method, RequestBuilder};
use serde_json::{Value, json};

use super::objects::{Object, objects};
use crate::harness::{SOON, eventually};

/// A client of an API server, with a token.
#[derive(Clone)]
pub(super) struct Api {
    http: reqwest::Client,
    url: String,
    token: String,
}

/// The API server's answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Api {
    /// A client of the API server at `url`, which must present a certificate of this authority.
    pub(super) fn new(url: &str, authority: &str, token: &str) -> Self {
        let authority = Certificate::from_pem(authority.as_bytes()).expect("a certificate");
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([authority])
            .build();
        Self {
            http: http.expect("an HTTP client"),
            url: url.to_owned(),
            token: token.to_owned(),
        }
    }

    /// Whether the server is running and ready.
    pub(super) async fn is_ready(&self) -> bool {
        let answer = self.request(Method::GET, "/readyz").send().await;
        answer.is_ok_and(|answer| answer.status() == 200)
    }

    /// Applies every object of a manifest, and waits until the API serves what they define.
    pub(super) async fn apply(&self, manifest: &str) {
        for object in objects(manifest) {
            let answer = self.send(&object, "").await;
            assert!(answer.is_success(), "{}: {answer}", object.path());
            if let Some(defined) = defined_by(&answer.body) {
                let served = async || (self.get(&defined).await.status == 200).then_some(());
                eventually(&format!("{defined} is served"), SOON, served).await;
            }
        }
    }

    /// The server's answer to the object in a dry run.
    pub(super) async fn dry_run(&self, object: &Object) -> Answer {
        self.send(object, "&dryRun=All").await
    }

    /// The key in a Secret, as a pod would get it; `None` if it does not exist yet.
    pub(super) async fn key_in(&self, secret: &str) -> Option<String> {
        let path = format!("/api/v1/namespaces/apps/secrets/{secret}");
        let value = self.get(&path).await.body["data"]["OPENROUTER_API_KEY"].take();
        let bytes = BASE64_STANDARD.decode(value.as_str()?).expect("base64");
        Some(String::from_utf8(bytes).expect("a key is text"))
    }

    async fn get(&self, path: &str) -> Answer {
        Answer::to(self.request(Method::GET, path)).await
    }

    /// A server-side apply, in which an unknown field is an error.
    async fn send(&self, object: &Object, more: &str) -> Answer {
        let options = "fieldManager=tests&force=true&fieldValidation=Strict";
        let path = format!("{}?{options}{more}", object.path());
        let request = self.request(Method::PATCH, &path);
        let request = request.header("Content-Type", "application/apply-patch+yaml");
        Answer::to(request.body(object.yaml().to_owned())).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.url);
        self.http.request(method, url).bearer_auth(&self.token)
    }
}

impl Answer {
    async fn to(request: RequestBuilder) -> Self {
        let answer = request.send().await.expect("the API server answers");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("the whole answer");
        // For resources that it does not serve, the answer is text.
        let body = serde_json::from_str(&text).unwrap_or_else(|_| json!({"message": text}));
        Self { status, body }
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.body)
    }
}

/// The path of the objects of a resource definition, if this is one.
fn defined_by(object: &Value) -> Option<String> {
    (object["kind"] == "CustomResourceDefinition").then_some(())?;
    let spec = &object["spec"];
    let version = &spec["versions"][0]["name"];
    let [group, version, plural] = [&spec["group"], version, &spec["names"]["plural"]];
    let text = |value: &Value| value.as_str().expect("a definition has names").to_owned();
    Some(format!(
        "/apis/{}/{}/{}",
        text(group),
        text(version),
        text(plural)
    ))
}
