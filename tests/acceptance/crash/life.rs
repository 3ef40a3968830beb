//! One role's keys up to a chosen point of their life, and what must be true of them afterwards.
//!
//! A point is a request to OpenRouter that is held, before or after it takes effect. However slow or fast the
//! machine is, the engine is exactly there when the test kills it. Each life has its own mount and
//! OpenRouter, so that one kill can hit all of them at once.

use std::fmt;
use std::time::Duration;

use openrouter_simulator::{Fault, NewGuardrail};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::harness::{Client, Mount, Promise, Reply, eventually};

/// What makes the engine call OpenRouter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The role is being created.
    Creation,
    /// The current key's rotation period has ended.
    Schedule,
    /// A person rotates the role.
    Manual,
    /// A person rotates a role whose keys have a guardrail.
    Guarded,
    /// A person rotates the role with a grace period of 0.
    Emergency,
    /// A superseded key's grace period has ended.
    Retirement,
    /// A person changes the limit.
    Limit,
    /// A person deletes the role.
    Deletion,
}

/// A point of a key's life: the cause of a request, and what happens to it after the engine's end.
#[derive(Clone, Copy)]
pub(crate) struct Point {
    cause: Cause,
    method: &'static str,
    path: &'static str,
    effect: Effect,
}

/// When a request without a reply takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// It was lost.
    Never,
    /// It is still on its way when the engine ends.
    Later,
    /// The reply is on its way.
    Already,
}

impl Point {
    /// The request will have no effect.
    pub(crate) const fn lost(cause: Cause, method: &'static str, path: &'static str) -> Self {
        Self {
            cause,
            method,
            path,
            effect: Effect::Never,
        }
    }

    /// The request will be carried out when the engine has ended.
    pub(crate) const fn before(cause: Cause, method: &'static str, path: &'static str) -> Self {
        Self {
            effect: Effect::Later,
            ..Self::lost(cause, method, path)
        }
    }

    /// The request is carried out.
    pub(crate) const fn after(cause: Cause, method: &'static str, path: &'static str) -> Self {
        Self {
            effect: Effect::Already,
            ..Self::lost(cause, method, path)
        }
    }

    /// The first such request with this cause. The first key of a role is created and verified like every
    /// other key, so for most causes it is the second request.
    fn hold(&self) -> openrouter_simulator::Rule {
        let fault = Fault::Held {
            after_effect: self.effect == Effect::Already,
        };
        let is_for_a_new_key = matches!(
            (self.method, self.path),
            ("POST", _) | (_, "/key" | ASSIGNMENTS)
        );
        let nth = if is_for_a_new_key && self.cause != Cause::Creation {
            2
        } else {
            1
        };
        fault.on(self.method, self.path).nth(nth)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cause,
            method,
            path,
            effect,
        } = self;
        write!(
            f,
            "{cause:?} with {method} {path}, whose effect comes {effect:?}"
        )
    }
}

/// A role at a point of its life.
pub(crate) struct Life {
    point: Point,
    pub(crate) mount: Mount,
    /// The task that waits for the engine's answer.
    caller: Option<JoinHandle<Option<Reply>>>,
    /// The role's first key.
    first: Option<String>,
    /// A key that was handed out while the request was held.
    promise: Option<Promise>,
}

impl Life {
    /// Brings a role of a new mount to the point.
    pub(crate) async fn up_to(point: Point, client: Client) -> Self {
        let mount = Mount::on(client).await;
        // Shown when the test fails. Everything else is identified by the mount's name.
        println!("{}: {point}", mount.path());
        // No request may time out before the other lives have reached their points.
        let patient = json!({"request_timeout": REQUEST_TIME.as_secs()});
        mount.write("config", patient).await.ok();
        if point.cause == Cause::Guarded {
            let guardrail = NewGuardrail::named(GUARDRAIL);
            mount.openrouter.account().add_guardrail(guardrail);
        }
        mount.openrouter.faults().add(point.hold());
        let mut first = None;
        if point.cause != Cause::Creation {
            mount.role("app", definition(point.cause)).await;
            first = Some(mount.key("app").await);
        }
        let caller = call(point.cause, &mount).await;
        let held = async || (mount.openrouter.faults().held() == 1).then_some(());
        eventually(&format!("the request: {point}"), DONE_TIME, held).await;
        let promise = match point.cause {
            Cause::Creation | Cause::Emergency | Cause::Deletion => None,
            _ => {
                let asked = mount.openrouter.clock().now();
                let reply = mount.read("creds/app").await.ok();
                Some(Promise::made_by(&reply, asked))
            }
        };
        Self {
            point,
            mount,
            caller,
            first,
            promise,
        }
    }

    /// The engine that made the request has ended: lets the request continue.
    pub(crate) fn go_on(&self) {
        if self.point.effect != Effect::Never {
            self.finish();
        }
    }

    /// Lets OpenRouter answer the request.
    pub(crate) fn finish(&self) {
        self.mount.openrouter.recover();
    }

    /// The answer to the caller; `None` if there was no caller, or the server ended before it answered.
    pub(crate) async fn reply(&mut self) -> Option<Reply> {
        let caller = self.caller.take()?;
        caller.await.expect("the caller does not panic")
    }

    /// Checks that the restarted engine keeps its guarantees. No one has to intervene, except the caller
    /// whose new role was not created.
    pub(crate) async fn is_whole(&self) {
        let (point, mount) = (self.point, &self.mount);
        if point.cause == Cause::Creation {
            mount.role("app", definition(point.cause)).await;
        }
        let done = async || self.is_done().await.then_some(());
        eventually(&format!("what was begun is done: {point}"), DONE_TIME, done).await;
        if point.cause != Cause::Deletion {
            assert!(mount.openrouter.accepts(&mount.key("app").await).await);
        }
        mount.knows_every_key().await;
        if point.cause == Cause::Guarded {
            let account = mount.openrouter.account();
            let keys = account.keys();
            let is_guarded = |hash: &str| account.guardrail_of(hash).is_some();
            assert!(keys.iter().all(|key| is_guarded(&key.hash)), "{keys:?}");
        }
        if let Some(promise) = &self.promise {
            promise.is_kept(mount).await;
        }
        println!("{point}: whole");
    }

    /// Whether the interrupted operation is complete, or as if it had never begun.
    async fn is_done(&self) -> bool {
        let (mount, first) = (&self.mount, self.first.as_deref().unwrap_or_default());
        match self.point.cause {
            // The caller was told if it failed.
            Cause::Creation | Cause::Manual | Cause::Guarded => true,
            Cause::Schedule => mount.key("app").await != first,
            Cause::Emergency | Cause::Retirement => !mount.openrouter.accepts(first).await,
            Cause::Limit => {
                let keys = mount.openrouter.account().keys();
                let role = mount.read("roles/app").await.ok();
                role.field("limit").as_f64() == Some(NEW_LIMIT)
                    && keys.iter().all(|key| key.limit == Some(NEW_LIMIT))
            }
            Cause::Deletion => mount.read("roles/app").await.status() == 404,
        }
    }
}

/// Triggers the cause, and returns the task that waits for an answer.
async fn call(cause: Cause, mount: &Mount) -> Option<JoinHandle<Option<Reply>>> {
    let (role, rotate) = (mount.at("roles/app"), mount.at("rotate-role/app"));
    let write = |path: String, body| {
        let client = mount.client().clone();
        tokio::spawn(async move { client.try_write(&path, body).await })
    };
    match cause {
        Cause::Schedule => None,
        Cause::Retirement => {
            mount.write("rotate-role/app", json!({})).await.ok();
            None
        }
        Cause::Creation => Some(write(role, definition(cause))),
        Cause::Manual | Cause::Guarded => Some(write(rotate, json!({}))),
        Cause::Emergency => Some(write(rotate, json!({"rotation_grace_period": 0}))),
        Cause::Limit => Some(write(role, json!({"limit": NEW_LIMIT}))),
        Cause::Deletion => {
            let client = mount.client().clone();
            Some(tokio::spawn(async move { client.try_delete(&role).await }))
        }
    }
}

fn definition(cause: Cause) -> Value {
    // A key that was being created is left alone for a grace period after the engine's return.
    let mut definition = json!({"limit": 5, "rotation_grace_period": 10, "ttl": 4});
    match cause {
        Cause::Schedule => {
            definition["rotation_period"] = json!(5);
            // Longer than any recovery takes here.
            definition["key_max_lifetime"] = json!(3_600);
        }
        Cause::Retirement => definition["rotation_grace_period"] = json!(5),
        Cause::Guarded => definition["guardrail"] = json!(GUARDRAIL),
        _ => {}
    }
    definition
}

const NEW_LIMIT: f64 = 7.0;
const GUARDRAIL: &str = "strict";
/// The requests that assign a key to a guardrail and verify the assignment.
pub(super) const ASSIGNMENTS: &str = "/guardrails/*/assignments/keys";
/// After a failure, the new process may wait fifteen seconds for its second try.
const DONE_TIME: Duration = Duration::from_secs(240);

/// How long a held request may take: the maximum time limit of a connection.
pub(super) const REQUEST_TIME: Duration = Duration::from_secs(60);

/// How long an engine may take to end: a second for each mount in which it is at work, and more for a busy
/// machine, but less than the remaining time limit of its requests.
pub(crate) const SHUTDOWN_TIME: Duration = Duration::from_secs(40);
