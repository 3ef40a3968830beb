//! A minimal client: sends a request and shows the answer.
//!
//! Follows no redirect, uses no proxy and never retries, so that a test sees exactly what happened.

use openrouter_simulator::{Clock, Options, Simulator};
use reqwest::{Method, Response, header::HeaderMap, redirect};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A client with one bearer token, or none.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base_url: String,
    token: Option<String>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// Null if the body was not JSON.
    pub(crate) body: Value,
}

/// A simulator on Friday, 20 November 2026, 12:00 UTC, that generates the same keys in each run.
pub(crate) async fn simulator() -> Simulator {
    let clock = Clock::standing_at("2026-11-20T12:00:00Z".parse().unwrap());
    Simulator::start(Options {
        clock,
        seed: Some(1),
        ..Options::default()
    })
    .await
    .unwrap()
}

impl Client {
    /// A client with the simulator's management key.
    pub(crate) fn of(simulator: &Simulator) -> Self {
        Self::at(simulator.base_url(), Some(simulator.management_key()))
    }

    pub(crate) fn at(base_url: String, token: Option<&str>) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .build()
            .unwrap();
        Self {
            http,
            base_url,
            token: token.map(str::to_owned),
        }
    }

    /// The same client with another token.
    pub(crate) fn with(&self, token: &str) -> Self {
        Self {
            token: Some(token.to_owned()),
            ..self.clone()
        }
    }

    /// The same client without a token.
    pub(crate) fn anonymous(&self) -> Self {
        Self {
            token: None,
            ..self.clone()
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PATCH, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, None).await
    }

    /// Creates a key and returns its hash and its secret.
    pub(crate) async fn create(&self, body: Value) -> (String, String) {
        let answer = self.post("/keys", body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        (answer.text("/data/hash"), answer.text("/key"))
    }

    /// The status and message of a completion requested with `secret`.
    pub(crate) async fn complete(&self, secret: &str) -> (u16, String) {
        let body = serde_json::json!({ "model": "m", "messages": [] });
        let answer = self.with(secret).post("/chat/completions", body).await;
        (answer.status, answer.message())
    }

    /// The names of a list's keys.
    pub(crate) async fn names(&self, path: &str) -> Vec<String> {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let keys = answer.body["data"].as_array().unwrap().iter();
        keys.map(|key| key["name"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Sends a request and returns as soon as the headers arrive, or the error instead.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> reqwest::Result<Response> {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.base_url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let response = self.send(method, path, body).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default();
        Answer {
            status,
            headers,
            body,
        }
    }
}

impl Answer {
    /// `error.message`, or empty text.
    pub(crate) fn message(&self) -> String {
        self.body["error"]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The text at a JSON pointer.
    pub(crate) fn text(&self, pointer: &str) -> String {
        self.body
            .pointer(pointer)
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned()
    }
}

/// The SHA-256 of a text in lowercase hexadecimal.
pub(crate) fn sha256_hex(text: &str) -> String {
    Sha256::digest(text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
