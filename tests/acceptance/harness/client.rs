//! The server's HTTP API as tests use it: one method per Vault operation, and replies that say what went
//! wrong if they are not what the test expects.

use std::fmt;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// A client of a server, with a token.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    address: String,
    token: String,
}

impl Client {
    /// A client of the server at `address` (`http://127.0.0.1:port`).
    pub(crate) fn new(address: &str, token: &str) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("an HTTP client");
        Self {
            http,
            address: address.to_owned(),
            token: token.to_owned(),
        }
    }

    /// The same server with another token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self {
            token: token.to_owned(),
            ..self.clone()
        }
    }

    /// The same with a time limit for answers.
    pub(crate) fn giving_up_after(&self, limit: Duration) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(limit).build();
        Self {
            http: http.expect("an HTTP client"),
            ..self.clone()
        }
    }

    /// The server's address, for the CLI.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The token, for the CLI.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    pub(crate) async fn read(&self, path: &str) -> Reply {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn list(&self, path: &str) -> Reply {
        self.send(list_method(), path, None).await
    }

    pub(crate) async fn write(&self, path: &str, body: Value) -> Reply {
        self.send(Method::POST, path, Some(body)).await
    }

    /// A JSON merge patch, as `vault patch` sends it.
    pub(crate) async fn patch(&self, path: &str, body: Value) -> Reply {
        self.send(Method::PATCH, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.send(Method::DELETE, path, None).await
    }

    /// `vault path-help`.
    pub(crate) async fn help(&self, path: &str) -> Reply {
        self.send(Method::GET, &format!("{path}?help=1"), None)
            .await
    }

    /// A read that may not reach a server.
    pub(crate) async fn try_read(&self, path: &str) -> Option<Reply> {
        self.try_send(Method::GET, path, None).await.ok()
    }

    /// A write during which the server may end.
    pub(crate) async fn try_write(&self, path: &str, body: Value) -> Option<Reply> {
        self.try_send(Method::POST, path, Some(body)).await.ok()
    }

    /// A deletion during which the server may end.
    pub(crate) async fn try_delete(&self, path: &str) -> Option<Reply> {
        self.try_send(Method::DELETE, path, None).await.ok()
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        let name = format!("{method} {path}");
        self.try_send(method, path, body)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error:?}"))
    }

    async fn try_send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> reqwest::Result<Reply> {
        let name = format!("{method} {path}");
        let url = format!("{}/v1/{path}", self.address);
        let content_type = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let mut request = self
            .http
            .request(method, url)
            .header("X-Vault-Token", &self.token);
        if let Some(body) = body {
            request = request
                .header("Content-Type", content_type)
                .body(body.to_string());
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = response.text().await?;
        let json = serde_json::from_str(&body).unwrap_or(Value::Null);
        Ok(Reply {
            request: name,
            status,
            headers,
            json,
            body,
        })
    }
}

/// The server's answer.
pub(crate) struct Reply {
    request: String,
    status: u16,
    headers: HeaderMap,
    json: Value,
    body: String,
}

impl Reply {
    /// The method and path of the request.
    pub(crate) fn request(&self) -> &str {
        &self.request
    }

    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// A header, if it exists.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as received, if it is not JSON.
    pub(crate) fn body(&self) -> &str {
        &self.body
    }

    /// The whole body.
    pub(crate) fn json(&self) -> &Value {
        &self.json
    }

    /// Asserts success.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(
            (200..300).contains(&self.status),
            "expected success: {self}"
        );
        self
    }

    /// Asserts that the request was rejected with this status, and that the text contains all of these words.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, words: &[&str]) -> Self {
        assert_eq!(self.status, status, "expected a refusal: {self}");
        let errors = self.errors();
        for word in words {
            assert!(
                errors.contains(word),
                "expected `{word}` in the error: {self}"
            );
        }
        self
    }

    /// Asserts that nothing exists at this path.
    #[track_caller]
    pub(crate) fn absent(self) {
        assert_eq!(self.status, 404, "expected nothing to be there: {self}");
    }

    /// Asserts a warning that contains all of these words.
    #[track_caller]
    pub(crate) fn warns(self, words: &[&str]) -> Self {
        let fits = |warning: &String| words.iter().all(|word| warning.contains(word));
        assert!(
            self.warnings().iter().any(fits),
            "expected a warning with {words:?}: {self}"
        );
        self
    }

    /// Asserts that there is no warning.
    #[track_caller]
    pub(crate) fn without_warnings(self) -> Self {
        assert_eq!(
            self.warnings(),
            Vec::<String>::new(),
            "expected no warning: {self}"
        );
        self
    }

    /// The error texts, joined.
    pub(crate) fn errors(&self) -> String {
        strings(&self.json["errors"]).join("\n")
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        strings(&self.json["warnings"])
    }

    pub(crate) fn data(&self) -> &Value {
        &self.json["data"]
    }

    /// The names of the fields in `data`, sorted.
    #[track_caller]
    pub(crate) fn fields(&self) -> Vec<&str> {
        let data = self
            .data()
            .as_object()
            .unwrap_or_else(|| panic!("expected data: {self}"));
        let mut names: Vec<&str> = data.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// A field of `data`; panics if it is missing.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> &Value {
        self.data()
            .get(name)
            .unwrap_or_else(|| panic!("expected the field `{name}`: {self}"))
    }

    /// A field of `data` that must be a string.
    #[track_caller]
    pub(crate) fn text(&self, name: &str) -> String {
        let field = self.field(name).as_str();
        field
            .unwrap_or_else(|| panic!("expected `{name}` to be a string: {self}"))
            .to_owned()
    }

    /// A field of `data` that must be an integer.
    #[track_caller]
    pub(crate) fn integer(&self, name: &str) -> i64 {
        let field = self.field(name).as_i64();
        field.unwrap_or_else(|| panic!("expected `{name}` to be an integer: {self}"))
    }

    /// The keys of a list.
    pub(crate) fn keys(&self) -> Vec<String> {
        strings(&self.json["data"]["keys"])
    }

    #[track_caller]
    pub(crate) fn lease_id(&self) -> String {
        let id = self.json["lease_id"].as_str().filter(|id| !id.is_empty());
        id.unwrap_or_else(|| panic!("expected a lease: {self}"))
            .to_owned()
    }

    /// The lease's duration in seconds.
    #[track_caller]
    pub(crate) fn lease_duration(&self) -> i64 {
        let duration = self.json["lease_duration"].as_i64();
        duration.unwrap_or_else(|| panic!("expected a lease duration: {self}"))
    }

    #[track_caller]
    pub(crate) fn renewable(&self) -> bool {
        let renewable = self.json["renewable"].as_bool();
        renewable.unwrap_or_else(|| panic!("expected a lease: {self}"))
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answered {} {}", self.request, self.status, self.json)
    }
}

fn strings(array: &Value) -> Vec<String> {
    let items = array.as_array().map(Vec::as_slice).unwrap_or_default();
    items
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn list_method() -> Method {
    Method::from_bytes(b"LIST").expect("a method name")
}
