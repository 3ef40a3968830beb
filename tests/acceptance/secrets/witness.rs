//! A client that uses the engine in every way, and keeps every answer.

use openrouter_simulator::{Fault, NewKey, Rule};
use serde_json::{Value, json};

use super::WRONG_MANAGEMENT_KEY;
use super::places::Places;
use crate::harness::{Mount, Reply};

/// The client, and its answers.
pub(super) struct Witness<'a> {
    mount: &'a Mount,
    /// The connection that is written repeatedly.
    connection: Value,
    /// Every answer that must not contain a secret.
    pub(super) places: Places,
    /// The answers that contain a key on purpose.
    pub(super) handed_out: Places,
    requests: Vec<String>,
    round: u32,
    /// Whether the outcome of every order is known. Runs wait for that for minutes.
    is_clear: bool,
}

impl<'a> Witness<'a> {
    pub(super) fn new(mount: &'a Mount, connection: Value) -> Self {
        Self {
            mount,
            connection,
            places: Places::default(),
            handed_out: Places::default(),
            requests: Vec::new(),
            round: 0,
            is_clear: true,
        }
    }

    /// Keeps an answer, and returns it.
    pub(super) fn keep(&mut self, reply: Reply) -> Reply {
        let request = reply.request().to_owned();
        let success = reply.status() < 300;
        if success && reply.data().get("api_key").is_some() {
            self.handed_out
                .add("credentials", &request, reply.to_string());
        } else {
            let kind = match request.split(' ').next() {
                _ if !success => "errors",
                _ if request.ends_with("?help=1") => "help pages",
                Some("LIST") => "lists",
                _ => "answers",
            };
            self.places.add(kind, &request, reply.to_string());
        }
        self.requests.push(request);
        reply
    }

    /// Whether a path of the engine was used. A part in braces stands for any name.
    pub(super) fn asked(&self, method: &str, template: &str) -> bool {
        let template = self.mount.at(template);
        self.requests.iter().any(|request| {
            let (asked, path) = request.split_once(' ').expect("a method and a path");
            let path = path.split('?').next().unwrap_or_default();
            let same = |(part, given): (&str, &str)| part.starts_with('{') || part == given;
            asked == method
                && path.split('/').count() == template.split('/').count()
                && template.split('/').zip(path.split('/')).all(same)
        })
    }

    /// Every operation on every path, while OpenRouter fails every request in this way.
    pub(super) async fn uses_everything_while(&mut self, fault: Option<Rule>) {
        self.round += 1;
        let is_slow = |rule: &Rule| matches!(rule.fault, Fault::Slow { .. });
        let too_late = fault.as_ref().is_some_and(is_slow);
        // Short only if answers should come too late. In all other cases none may be late, however busy the
        // machine is.
        self.connection["request_timeout"] = if too_late { 1 } else { 30 }.into();
        // Stored beforehand, since some faults prevent that.
        let mut connection = self.connection.clone();
        connection["verify_connection"] = false.into();
        self.keep(self.mount.write("config", connection).await.ok());
        self.is_clear &= fault.as_ref().is_none_or(is_refusal);
        if let Some(rule) = fault {
            self.mount.openrouter.faults().add(rule);
        }
        self.connections().await;
        self.roles().await;
        self.budgets().await;
        self.leases().await;
        self.custody().await;
        self.runs().await;
        self.disconnects().await;
        self.mount.openrouter.recover();
    }

    async fn connections(&mut self) {
        let connection = self.connection.clone();
        let patch =
            json!({"description": self.round, "management_key": connection["management_key"]});
        let mount = self.mount;
        for reply in [
            mount.write("config", connection.clone()).await,
            mount.write("config/second", connection).await,
            mount.patch("config", patch.clone()).await,
            mount.patch("config/second", patch).await,
            mount.read("config").await,
            mount.read("config/second").await,
            mount.list("config").await,
        ] {
            self.keep(reply);
        }
    }

    async fn disconnects(&mut self) {
        // Roles use the first connection.
        for path in ["config", "config/second"] {
            self.keep(self.mount.delete(path).await);
        }
    }

    async fn roles(&mut self) {
        let mount = self.mount;
        let new = format!("roles/new-{}", self.round);
        let limit = json!({"limit": self.round + 1});
        for reply in [
            mount
                .write("roles/app", json!({"credential_type": "rotating"}))
                .await,
            mount.patch("roles/app", limit).await,
            mount.write(&new, json!({})).await,
            mount.write("rotate-role/app", json!({})).await,
            mount
                .write("rotate-role/app", json!({"rotation_grace_period": 0}))
                .await,
            mount.read("roles/app").await,
            mount.list("roles").await,
            mount.read("creds/app").await,
            mount.read("static-creds/app").await,
            mount.read("static-creds/nobody").await,
            mount.delete(&new).await,
            mount
                .write(&format!("forget-role/new-{}", self.round), json!({}))
                .await,
            mount.write("forget-connection/nowhere", json!({})).await,
        ] {
            self.keep(reply);
        }
    }

    async fn budgets(&mut self) {
        let mount = self.mount;
        let budget = json!({"budget": self.round + 1, "budget_reset": "daily"});
        let leases = json!({"credential_type": "dynamic", "limit": 1, "budget": 1.5});
        for reply in [
            mount.write("roles/spender", budget).await,
            mount.write("rotate-role/spender", json!({})).await,
            mount.read("usage/spender").await,
            mount.read("usage/app").await,
            mount.write("roles/shared", leases).await,
            mount.read("creds/shared").await,
            mount
                .write("creds/shared", json!({"limit": 0.5, "ttl": "1m"}))
                .await,
            mount.write("creds/shared", json!({"limit": 2})).await,
            mount.read("creds/shared").await,
            mount.read("usage/shared").await,
            mount.write("creds/app", json!({"limit": 0.5})).await,
        ] {
            self.keep(reply);
        }
    }

    async fn leases(&mut self) {
        let mount = self.mount;
        let role = json!({"credential_type": "dynamic", "ttl": 600});
        self.keep(mount.write("roles/ci", role).await);
        let lease = self.keep(mount.read("creds/ci").await);
        // Without a fault there is one. With a fault, an earlier one is to be ended.
        let lease = if lease.status() == 200 {
            lease.lease_id()
        } else {
            self.keep(
                mount
                    .client()
                    .list(&format!("sys/leases/lookup/{}", mount.at("creds/ci")))
                    .await,
            )
            .keys()
            .first()
            .map(|id| mount.at(&format!("creds/ci/{id}")))
            .unwrap_or_default()
        };
        let body = json!({"lease_id": lease, "sync": true});
        for path in ["sys/leases/lookup", "sys/leases/renew", "sys/leases/revoke"] {
            self.keep(mount.client().write(path, body.clone()).await);
        }
        // One that is left for the next fault.
        self.keep(mount.read("creds/ci").await);
    }

    /// The account's keys, and one of them that was found somewhere.
    async fn custody(&mut self) {
        let mount = self.mount;
        let by_hand = NewKey::named("by hand");
        let unmanaged = mount.openrouter.account().create_key(by_hand);
        let hash = &unmanaged.hash;
        let one = format!("keys/default/{hash}");
        let disable = format!("disable-key/default/{hash}");
        let revoke = format!("revoke-key/default/{hash}");
        let adopt = |key: &str| mount.write("roles/adopted", json!({"api_key": key}));
        // It is unmanaged again then.
        let give_back = mount.write("forget-role/adopted", json!({"revoke_keys": false}));
        let lookup = |field: &str, value: &str| mount.write("lookup", json!({field: value}));
        for reply in [
            mount.list("keys/default").await,
            mount.read("keys/default").await,
            mount.read(&one).await,
            lookup("api_key", unmanaged.secret()).await,
            lookup("api_key", WRONG_MANAGEMENT_KEY).await,
            lookup("key_hash", hash).await,
            adopt(WRONG_MANAGEMENT_KEY).await,
            adopt(unmanaged.secret()).await,
            mount.read("roles/adopted").await,
            mount
                .write("restore-key/app", json!({"key_version": 1}))
                .await,
            give_back.await,
            mount.write(&disable, json!({})).await,
            mount.write(&revoke, json!({})).await,
            mount.read("status").await,
            mount.read("metrics").await,
        ] {
            self.keep(reply);
        }
    }

    /// Jobs that take longer than a request may.
    async fn runs(&mut self) {
        let mount = self.mount;
        let (rotate_all, tidy, teardown) = ("rotate-all/default", "tidy/default", "teardown");
        if self.is_clear {
            for (path, body) in [
                (rotate_all, json!({})),
                (rotate_all, json!({"rotation_grace_period": 0})),
                (tidy, json!({})),
                (tidy, json!({"dry_run": false})),
                (teardown, json!({})),
            ] {
                self.keep(mount.write(path, body).await);
            }
            self.keep(mount.read("creds/app").await);
        }
        for path in [rotate_all, tidy, teardown] {
            self.keep(mount.read(path).await);
        }
        self.keep(mount.delete(teardown).await);
    }

    /// The mistakes that a user can make with a secret.
    pub(super) async fn mistakes(&mut self, fields: Vec<(&str, Value)>) {
        for (path, fields) in fields {
            let reply = self.mount.write(path, fields).await;
            let reply = self.keep(reply);
            assert!(
                reply.status() >= 400,
                "a mistake is refused: {}",
                reply.request()
            );
        }
    }
}

/// Everything that can go wrong with a request. The answer repeats what the client sent, if it has any text.
pub(super) fn faults(echo: &str) -> Vec<Rule> {
    // Refusals come first: the outcome of an order is known after them.
    let statuses = [400, 401, 403, 404, 407, 409, 408, 429, 500, 503];
    let status = |status| Fault::Status {
        status,
        message: Some(echo.to_owned()),
        retry_after: None,
        after_effect: false,
    };
    let html = |status| Fault::Html {
        status,
        after_effect: true,
    };
    let redirect = Fault::Redirect {
        location: "http://127.0.0.1:9/api/v1/key".to_owned(),
    };
    let slow = Fault::Slow {
        milliseconds: 1_500,
        after_effect: true,
    };
    let rest = [
        html(200),
        html(502),
        redirect,
        slow,
        Fault::LostReply,
        Fault::ResetBeforeEffect,
        Fault::TruncatedBody,
        Fault::NonsenseJson,
        Fault::WrongContentType,
        Fault::EndlessBody,
        Fault::CreatedKeyDoesNotAuthenticate { uses: None },
    ];
    let all = statuses.map(status).into_iter().chain(rest);
    all.map(|fault| fault.on_anything().forever()).collect()
}

/// Whether OpenRouter rejects every request, permanently.
fn is_refusal(rule: &Rule) -> bool {
    matches!(
        rule.fault,
        Fault::Status {
            status: 400..=407 | 409,
            ..
        }
    )
}
