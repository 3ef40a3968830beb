//! Operators, who configure and change things, and people in the dashboard.

use std::sync::Arc;
use std::time::Duration;

use openrouter_simulator::{KeyChanges, NewKey};
use serde_json::{Value, json};
use tokio::time::sleep;
use vault_plugin_secrets_openrouter::logical::Operation;

use crate::requests::{Answer, request};
use crate::world::{BlowKind, World};

/// The rotating roles: one rotates automatically, the other manually.
pub(crate) const ROTATING: [&str; 2] = ["app", "man"];
/// A dynamic role.
pub(crate) const DYNAMIC: &str = "ci";

impl World {
    /// How long the next caller waits; `None` is without limit.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let hasty = self
            .dice
            .chance(if self.weather().is_bad() { 0.3 } else { 0.1 });
        hasty.then(|| self.dice.pause(20, 60_000))
    }

    /// An operator does something, and the story contains the outcome.
    pub(crate) async fn operate(
        self: &Arc<Self>,
        operation: Operation,
        path: &str,
        body: Value,
    ) -> Answer {
        let shown = body.to_string().replace('"', "");
        let doing = format!("{operation:?} {path} {shown}");
        let about = path.rsplit('/').next().unwrap_or_default();
        self.story.tell_of(&[about], format!("operator: {doing}"));
        let (answer, _) = self
            .ask(request(operation, path, body), self.patience())
            .await;
        let came = match &answer {
            Ok(_) => "done",
            Err(reason) => reason,
        };
        self.story
            .tell_of(&[about], format!("operator: {doing}: {came}"));
        answer
    }

    /// Connects both accounts, with new management keys.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        name: &str,
        patience: Option<Duration>,
    ) -> Answer {
        let account = &self.openrouter.accounts[usize::from(name == "other")];
        let key = account.add_management_key();
        let body = json!({
            "management_key": key,
            "api_url": self.openrouter.simulator.base_url(),
        });
        let quiet = json!({"management_key": "…"});
        self.story
            .tell(format!("operator: Update config/{name} {quiet}"));
        let path = format!("config/{name}");
        let (answer, _) = self
            .ask(request(Operation::Update, &path, body), patience)
            .await;
        self.story.tell(format!(
            "operator: config/{name}: {:?}",
            answer.as_ref().map(|_| "done")
        ));
        answer
    }

    /// An operator does something.
    pub(crate) async fn operator_acts(self: Arc<Self>) {
        let role = *self.dice.pick(&ROTATING);
        let (rotate, change, delete, create) = (0, 1, 2, 3);
        let (reconnect, ci, forget, disconnect, restore, bind) = (4, 5, 6, 7, 8, 9);
        let act = self.dice.weighted(&[
            (8, rotate),
            (8, change),
            (1, delete),
            (4, create),
            (1, reconnect),
            (2, ci),
            (1, forget),
            (1, disconnect),
            (3, restore),
            (2, bind),
        ]);
        if act == rotate {
            self.rotate(role).await;
        } else if act == change {
            self.change(role).await;
        } else if act == delete {
            self.delete(role).await;
        } else if act == create {
            self.create_all().await;
        } else if act == reconnect {
            let name = *self.dice.pick(&["default", "other"]);
            let _ = self.connect(name, self.patience()).await;
        } else if act == ci {
            self.define_dynamic().await;
        } else if act == forget {
            self.forget_role(role).await;
        } else if act == restore {
            self.restore_key(role).await;
        } else if act == bind {
            let name = *self.dice.pick(&["default", "other"]);
            self.bind(name).await;
        } else {
            let _ = self
                .operate(Operation::Delete, "config/other", Value::Null)
                .await;
        }
    }

    /// Creates the roles that do not exist.
    pub(crate) async fn create_all(self: &Arc<Self>) {
        for role in ROTATING {
            self.create(role).await;
        }
        self.define_dynamic().await;
    }

    async fn rotate(self: &Arc<Self>, role: &str) {
        let body = match self.dice.number(0, 5) {
            0 => json!({"rotation_grace_period": 0}),
            1 => {
                self.witness.in_use_for(role, 4_000);
                json!({"rotation_grace_period": 4_000})
            }
            _ => Value::Null,
        };
        let path = format!("rotate-role/{role}");
        if body["rotation_grace_period"] != 0 {
            let _ = self.operate(Operation::Update, &path, body).await;
            return;
        }
        let before = self.witness.emergency(role, Some(self.now()));
        let answer = self.operate(Operation::Update, &path, body).await;
        let since = match &answer {
            Err(reason) if did_nothing(reason) => before,
            _ => Some(self.now()),
        };
        self.witness.emergency(role, since);
        if let Ok(Some(answer)) = answer {
            self.witness_emergency(role, answer.data["key_hash"].as_str().unwrap());
        }
    }

    /// An operator restores an old key, if there is one.
    async fn restore_key(self: &Arc<Self>, role: &str) {
        let version = self.dice.number(1, 6);
        let duration = *self.dice.pick(&[60, 900, 5_000]);
        let body = json!({
            "key_version": version,
            "duration": duration,
            "force": self.dice.chance(0.5),
        });
        let path = format!("restore-key/{role}");
        let _ = self.operate(Operation::Update, &path, body).await;
    }

    async fn change(self: &Arc<Self>, role: &str) {
        let [_, second] = &self.openrouter.accounts[0].workspaces()[..] else {
            return;
        };
        let mut body = match self.dice.number(0, 7) {
            0 => json!({"limit": self.dice.number(1, 9)}),
            6 | 7 => json!({"guardrail": self.any_guardrail()}),
            1 | 2 => {
                let grace = *self.dice.pick(&[90, 600, 3_600]);
                self.witness.in_use_for(role, grace);
                let ttl = grace * 9 / 10 / self.dice.number(1, 3);
                match self.dice.chance(0.5) {
                    true => {
                        let limit = self.dice.number(1, 9);
                        json!({"ttl": ttl, "rotation_grace_period": grace, "limit": limit})
                    }
                    false => json!({"ttl": ttl, "rotation_grace_period": grace}),
                }
            }
            3 => json!({"connection": self.dice.pick(&["default", "other"]), "workspace_id": null}),
            4 => {
                let place = *self.dice.pick(&[None, Some(second)]);
                json!({"connection": "default", "workspace_id": place})
            }
            _ if self.dice.chance(0.5) => {
                json!({"revocation_hold": self.dice.number(0, 2) * 1_800})
            }
            _ => json!({"rotation_period": self.dice.number(1, 4) * 3_600}),
        };
        if role == "man" && !body["rotation_period"].is_null() {
            return;
        }
        self.change_budget(role, &mut body);
        // A reader reads while the change is in progress.
        let (world, reader) = (Arc::clone(self), role.to_owned());
        tokio::spawn(async move {
            sleep(world.dice.pause(1, 400)).await;
            let _ = world.read(&reader).await;
        });
        let _ = self
            .operate(Operation::Patch, &format!("roles/{role}"), body)
            .await;
    }

    async fn create(self: &Arc<Self>, role: &str) {
        if self.truth().roles.contains(role) {
            return;
        }
        self.witness.deletion(role, None);
        let born = self.now().to_string().into_bytes();
        self.raft.note((format!("server/born/{role}"), Some(born)));
        let (grace, ttl) = (600, *self.dice.pick(&[60, 300, 540]));
        self.witness.in_use_for(role, grace);
        let connection = self.dice.weighted(&[(3, "default"), (1, "other")]);
        let mut body = json!({
            "rotation_period": self.dice.number(1, 4) * 3_600,
            "disable_automated_rotation": role == "man",
            "rotation_grace_period": grace,
            "ttl": ttl,
            "revocation_hold": self.dice.weighted(&[(1, 0), (1, 3_600)]),
            "connection": connection,
            "limit": 5,
            "guardrail": self.any_guardrail(),
        });
        self.with_budget(role, &mut body);
        if self.dice.chance(0.3) {
            body["api_key"] = self.made_by_hand(role, connection).into();
        }
        let _ = self
            .operate(Operation::Update, &format!("roles/{role}"), body)
            .await;
    }

    /// The key of an application, which is to become the role's first key.
    fn made_by_hand(&self, role: &str, connection: &str) -> String {
        let account = &self.openrouter.accounts[usize::from(connection == "other")];
        let key = account.create_key(NewKey {
            limit: Some(5.0),
            ..NewKey::named(format!("{role} by hand"))
        });
        self.witness_by_hand(&key.hash, role);
        self.use_by_hand(role, &key.hash);
        key.secret().to_owned()
    }

    async fn define_dynamic(self: &Arc<Self>) {
        let ttl = *self.dice.pick(&[60, 300, 600]);
        self.witness.in_use_for(DYNAMIC, ttl);
        let mut body = json!({
            "credential_type": "dynamic",
            "ttl": ttl,
            "max_ttl": self.dice.number(1, 3) * 900,
            "max_leases": MAX_LEASES,
            "connection": self.dice.weighted(&[(3, "default"), (1, "other")]),
            "limit": 5,
            "guardrail": self.any_guardrail(),
        });
        self.with_budget(DYNAMIC, &mut body);
        let _ = self
            .operate(Operation::Update, &format!("roles/{DYNAMIC}"), body)
            .await;
    }

    async fn delete(self: &Arc<Self>, role: &str) {
        let before = self.witness.deletion(role, Some(self.now()));
        let path = format!("roles/{role}");
        let answer = self.operate(Operation::Delete, &path, Value::Null).await;
        if answer.is_err_and(|reason| reason.contains("stays as it was") || did_nothing(&reason)) {
            self.witness.deletion(role, before);
        }
    }

    /// A role is forgotten, and keys that cannot be revoked are left behind.
    async fn forget_role(self: &Arc<Self>, role: &str) {
        let truth = self.truth();
        let keys = truth
            .rotating
            .get(role)
            .into_iter()
            .flat_map(|role| role.keys());
        let keys: Vec<String> = keys.map(str::to_owned).collect();
        let before = self.witness.deletion(role, Some(self.now()));
        let answer = self
            .operate(
                Operation::Update,
                &format!("forget-role/{role}"),
                Value::Null,
            )
            .await;
        let answer = match answer {
            Err(reason) if did_nothing(&reason) => {
                self.witness.deletion(role, before);
                return;
            }
            Ok(Some(answer)) => answer,
            // Whatever it did, the answer that names the keys is lost. Only the engine's log still names
            // them, and nobody reads it here.
            _ => return keys.iter().for_each(|hash| self.witness.lose(hash)),
        };
        let left = answer
            .data
            .get("keys_left_behind")
            .and_then(Value::as_array);
        for hash in left.into_iter().flatten().filter_map(Value::as_str) {
            let name = self.story.name(hash);
            self.story
                .tell_of(&[hash], format!("{name} is left behind"));
            self.witness.leave_behind(hash, self.now());
        }
    }

    /// A person does something in OpenRouter's dashboard.
    pub(crate) fn person_acts(&self) {
        let truth = self.truth();
        let keys: Vec<&str> = truth
            .rotating
            .values()
            .flat_map(|role| role.keys())
            .collect();
        if keys.is_empty() {
            return;
        }
        let hash = *self.dice.pick(&keys);
        let name = self.story.name(hash);
        let (delete, disable, enable, raise, unguard) = (0, 1, 2, 3, 4);
        let act = self.dice.weighted(&[
            (2, delete),
            (1, disable),
            (2, enable),
            (2, raise),
            (4, unguard),
        ]);
        if act == unguard {
            self.person_unguards(hash);
            return;
        }
        let before = self.key(hash);
        for account in &self.openrouter.accounts {
            let (did, what) = if act == delete {
                (account.delete_key(hash).is_ok(), "deletes")
            } else if act == disable {
                (account.set_disabled(hash, true).is_ok(), "disables")
            } else if act == enable {
                (account.set_disabled(hash, false).is_ok(), "enables")
            } else {
                let limit = Some(Some(99.0));
                let changes = KeyChanges {
                    limit,
                    ..KeyChanges::default()
                };
                (
                    account.change_key(hash, &changes).is_ok(),
                    "raises the limit of",
                )
            };
            if !did {
                continue;
            }
            self.story
                .tell_of(&[hash], format!("a person {what} {name} in the dashboard"));
            if act == delete {
                self.witness.excuse(hash, "it was deleted in the dashboard");
            } else if act == disable {
                self.unplugged.lock().unwrap().push(hash.to_owned());
            }
            self.witness.unseen();
        }
        before.iter().for_each(|before| self.excuse_change(before));
    }

    /// People enable the keys again that they disabled in the dashboard, except those that are now held.
    pub(crate) fn plug_in_again(&self) {
        let truth = self.truth();
        let held: Vec<&String> = truth
            .rotating
            .values()
            .flat_map(|role| role.held.iter().map(|(hash, _)| hash))
            .collect();
        for hash in std::mem::take(&mut *self.unplugged.lock().unwrap()) {
            for account in &self.openrouter.accounts {
                let before = account.key(&hash);
                if !held.contains(&&hash) && account.set_disabled(&hash, false).is_ok() {
                    before.iter().for_each(|before| self.excuse_change(before));
                    let name = self.story.name(&hash);
                    self.story
                        .tell_of(&[&hash], format!("a person enables {name} again"));
                }
            }
        }
    }

    /// Something happens to the leader while an operator is at work.
    pub(crate) fn trouble(&self) {
        let kinds = [
            (3, BlowKind::KillPlugin),
            (2, BlowKind::KillServer),
            (4, BlowKind::Depose),
            (4, BlowKind::Snapshot),
        ];
        self.strike_at(self.dice.number(1, 16), self.dice.weighted(&kinds));
    }
}

/// Whether a refusal shows that nothing was begun: the request has not reached an engine, or there was
/// nothing to do. For any other refusal the outcome is unknown.
fn did_nothing(reason: &str) -> bool {
    ["there is no leader", "there is no role"]
        .iter()
        .any(|said| reason.contains(said))
}

const MAX_LEASES: u64 = 3;
