//! The simulator without a socket: requests are function calls, answered on the caller's runtime.
//!
//! For tests in simulated time. Every delay, latency or fault, passes in tokio's time, so that a
//! runtime with paused time decides when an answer arrives. With a [`Clock`] that follows tokio's time,
//! this holds for the rest of the simulator too.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use tower::ServiceExt as _;

use crate::account::Account;
use crate::billing::Billing;
use crate::clock::Clock;
use crate::pipeline::BASE_PATH;
use crate::requests::RequestLog;
use crate::script::FaultScript;
use crate::server::Cut;
use crate::simulator::{Options, StartError, app};
use crate::state::Shared;

/// A simulator without a listener.
#[derive(Clone, Debug)]
pub struct InProcess {
    shared: Arc<Shared>,
    app: Router,
    management_key: String,
    account: Account,
}

impl InProcess {
    /// A simulator with one account. [`Options::listen`] is not used.
    ///
    /// # Errors
    /// If an option is not acceptable.
    pub fn new(options: Options) -> Result<Self, StartError> {
        options.check()?;
        let (shared, account, management_key) = options.set_up();
        let app = app(Arc::clone(&shared));
        Ok(Self {
            shared,
            app,
            management_key,
            account,
        })
    }

    /// Sends a request as on a separate connection; only the path of its URL counts. `None` if a fault
    /// resets the connection before an answer. As at OpenRouter, a started request is completed even if
    /// the result is dropped.
    pub async fn send(&self, mut request: Request<Body>) -> Option<Response> {
        let cut = Cut::new();
        request.extensions_mut().insert(cut.clone());
        tokio::select! {
            biased;
            // The router cannot fail.
            answer = self.app.clone().oneshot(request) => answer.ok(),
            () = cut.made() => None,
        }
    }

    /// The API's URL for a client. Nothing listens there.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://localhost{BASE_PATH}")
    }

    /// The first management key of the first account.
    #[must_use]
    pub fn management_key(&self) -> &str {
        &self.management_key
    }

    /// The first account.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Adds an account with its own workspace and no management key.
    #[must_use]
    pub fn add_account(&self) -> Account {
        Account::new(Arc::clone(&self.shared), self.shared.add_account())
    }

    /// The clock for all expiries and limits.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// The cost of calls, when it becomes known, and the calls in flight.
    #[must_use]
    pub fn billing(&self) -> &Billing {
        &self.shared.billing
    }

    /// The fault script.
    #[must_use]
    pub fn faults(&self) -> &FaultScript {
        &self.shared.faults
    }

    /// The request log.
    #[must_use]
    pub fn requests(&self) -> &RequestLog {
        &self.shared.requests
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::to_bytes;
    use axum::http::header::AUTHORIZATION;
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::fault::Fault;

    fn simulator() -> InProcess {
        let options = Options {
            clock: Clock::tokio_from("2026-11-20T12:00:00Z".parse().unwrap()),
            seed: Some(1),
            ..Options::default()
        };
        InProcess::new(options).unwrap()
    }

    async fn create(simulator: &InProcess) -> Option<Response> {
        let request = Request::post("http://localhost/api/v1/keys")
            .header(
                AUTHORIZATION,
                format!("Bearer {}", simulator.management_key()),
            )
            .header("content-type", "application/json")
            .body(Body::from(r#"{"name":"app"}"#));
        simulator.send(request.unwrap()).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_answered_without_a_socket() {
        let simulator = simulator();
        let answer = create(&simulator).await.unwrap();
        assert_eq!(answer.status(), 201);
        let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let hash = simulator.account().keys()[0].hash.clone();
        assert_eq!(body["data"]["hash"], hash.as_str());
        assert_eq!(simulator.requests().to("POST", "/keys").len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reset_is_no_answer() {
        let simulator = simulator();
        simulator.faults().add(Fault::LostReply.on("POST", "/keys"));
        assert!(create(&simulator).await.is_none());
        assert_eq!(simulator.account().keys().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn delays_pass_in_tokios_time_and_what_has_begun_is_carried_out() {
        let simulator = simulator();
        let milliseconds = 3_600_000;
        let slow = Fault::Slow {
            milliseconds,
            after_effect: false,
        };
        simulator.faults().add(slow.on("POST", "/keys"));
        let begun = Instant::now();
        let given_up = timeout(Duration::from_secs(30), create(&simulator)).await;
        assert!(given_up.is_err() && simulator.account().keys().is_empty());
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(3_630));
        let keys = simulator.account().keys();
        assert_eq!(keys[0].created_at, "2026-11-20T13:00:00Z".parse().unwrap());
    }
}
