//! OpenRouter in the tests: the simulator, and an application that uses a key there.

use std::ops::Deref;

use openrouter_simulator::{Fault, Options, Simulator};
use serde_json::json;

use super::wait::{SOON, eventually};

/// A simulated OpenRouter with one account, for one test.
pub(crate) struct OpenRouter {
    simulator: Simulator,
    http: reqwest::Client,
}

impl OpenRouter {
    pub(crate) async fn start() -> Self {
        let simulator = Simulator::start(Options::default())
            .await
            .expect("the simulator starts");
        let http = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("an HTTP client");
        Self { simulator, http }
    }

    /// Uses a key as an application does. Returns whether it works. Panics on anything except success and a
    /// refusal of the key.
    pub(crate) async fn accepts(&self, key: &str) -> bool {
        let hello = json!({"model": "m", "messages": [{"role": "user", "content": "Hello."}]});
        let url = format!("{}/chat/completions", self.base_url());
        let request = self.http.post(url).bearer_auth(key).json(&hello);
        let answer = request.send().await.expect("the simulator answers");
        match answer.status().as_u16() {
            200 => true,
            401 | 403 => false,
            other => panic!("a completion was answered with {other}"),
        }
    }

    /// The hashes of the living keys, oldest first.
    pub(crate) fn hashes(&self) -> Vec<String> {
        self.account()
            .keys()
            .into_iter()
            .map(|key| key.hash)
            .collect()
    }

    /// From now on every request is answered with 503, until [`OpenRouter::recover`].
    pub(crate) fn fail(&self) {
        let message = "Service temporarily unavailable".to_owned();
        let unavailable = Fault::Status {
            status: 503,
            message: Some(message),
            retry_after: None,
            after_effect: false,
        };
        self.faults().add(unavailable.on_anything().forever());
    }

    /// Waits until this many requests are held.
    pub(crate) async fn holding(&self, count: usize) {
        let held = async || (self.faults().held() == count).then_some(());
        eventually(&format!("{count} requests are held"), SOON, held).await;
    }

    /// Ends every fault.
    pub(crate) fn recover(&self) {
        self.faults().clear();
    }
}

impl Deref for OpenRouter {
    type Target = Simulator;

    fn deref(&self) -> &Simulator {
        &self.simulator
    }
}
