//! Guardrails and bounds: who changes them, and whether each key that is handed out is held to the
//! guardrail of its role, and each that is made is within the bounds of its connection.
//!
//! # What must hold
//! - **No key of a guarded role is handed out that OpenRouter does not hold to its guardrail**: to the one
//!   of a version of the role that was in force, see [`in_force`](crate::in_force).
//! - **No key of a guarded role is assigned to a guardrail that its role has no more**, by a request that
//!   was sent when another one had long been in force.
//! - **In the end every living key is held to what its role shows.**
//! - **No key is made beyond the bounds of its connection** that were in force when it was ordered.
//!
//! # What is excused, and why
//! - **What a person has changed in the dashboard**, and what a restored snapshot does not know of: until a
//!   comparison has come to its end that began later.
//! - **An assignment that arrives late, or twice**: the same. Nothing that was sent can be called back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use openrouter_simulator::{Account, Key, NewGuardrail};
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::{Data, Operation, Request};
use vault_plugin_secrets_openrouter::openrouter::HttpRequest;

use crate::in_force::Entry;
use crate::node::{MOUNT, Node};
use crate::people::{DYNAMIC, ROTATING};
use crate::raft::Map;
use crate::requests::request;
use crate::truth::read;
use crate::witness::Sent;
use crate::world::World;

/// In each workspace there is one of each name.
const NAMES: [&str; 2] = ["strict", "lax"];

/// What was seen of guardrails in one life.
#[derive(Default)]
pub(crate) struct Guardrails(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    /// Keys that are held to something else by somebody else's will, and since when.
    tampered: BTreeMap<String, Timestamp>,
    /// Keys whose guardrail was deleted.
    bereft: BTreeSet<String>,
    counted: Counted,
}

/// How often the promises were put to the test.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    /// Keys that were handed out and held to the guardrail of their role.
    pub(crate) guarded: u64,
    /// Keys that were not, and excused.
    pub(crate) excused: u64,
    /// Assignments of keys that roles had.
    pub(crate) assigned: u64,
    /// Keys that were made under bounds.
    pub(crate) bounded: u64,
}

impl Counted {
    pub(crate) fn add(&mut self, other: Self) {
        self.guarded += other.guarded;
        self.excused += other.excused;
        self.assigned += other.assigned;
        self.bounded += other.bounded;
    }
}

/// What a version of a role says of a key.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// It need not be held to anything.
    Nothing,
    /// To this guardrail.
    To(String),
    /// It was made elsewhere, by another version.
    Elsewhere,
}

impl Wanted {
    fn accepts(&self, held: Option<&String>) -> bool {
        match self {
            Self::Nothing => true,
            Self::To(guardrail) => held == Some(guardrail),
            Self::Elsewhere => false,
        }
    }
}

/// A key, and where it is.
struct Placed<'a> {
    account: &'a Account,
    is_other: bool,
    key: Key,
}

impl Placed<'_> {
    fn held(&self) -> Option<String> {
        self.account.guardrail_of(&self.key.hash)
    }

    fn role(&self) -> &str {
        self.key.name.split(' ').next().unwrap_or_default()
    }
}

/// What people do.
impl World {
    /// Every workspace has its guardrails, again if some were deleted.
    pub(crate) fn make_guardrails(&self) {
        for account in &self.openrouter.accounts {
            let there = account.guardrails();
            for workspace in account.workspaces() {
                for name in NAMES {
                    let is_there = there.iter().any(|guardrail| {
                        guardrail.name == name
                            && guardrail.workspace_id.as_ref() == Some(&workspace)
                    });
                    if !is_there {
                        account.add_guardrail(NewGuardrail {
                            workspace_id: Some(workspace.clone()),
                            ..NewGuardrail::named(name)
                        });
                    }
                }
            }
        }
    }

    /// The guardrail that a role is to have: none, often.
    pub(crate) fn any_guardrail(&self) -> Option<&'static str> {
        let [strict, lax] = NAMES;
        self.dice
            .weighted(&[(2, None), (3, Some(strict)), (2, Some(lax))])
    }

    /// An operator changes the bounds of a connection; they are refused if a role is beyond them.
    pub(crate) async fn bind(self: &Arc<Self>, name: &str) {
        let all = ROTATING.join(",") + "," + DYNAMIC;
        let body = match self.dice.number(0, 4) {
            0 | 1 => json!({"max_limit": self.dice.number(5, 9)}),
            2 => json!({"max_key_lifetime": self.dice.number(1, 4) * 20_000}),
            3 => json!({"allowed_roles": self.dice.pick(&[&*all, ROTATING[0], DYNAMIC])}),
            _ => unbound(),
        };
        let path = format!("config/{name}");
        let _ = self.operate(Operation::Patch, &path, body).await;
    }

    /// A person takes a key off its guardrail in the dashboard, gives it another, or deletes the guardrail.
    pub(crate) fn person_unguards(&self, hash: &str) {
        let Some(placed) = self.placed(hash).filter(|placed| placed.held().is_some()) else {
            return;
        };
        let (account, held) = (placed.account, placed.held().unwrap_or_default());
        let (take_off, replace, delete) = (0, 1, 2);
        let act = self
            .dice
            .weighted(&[(2, take_off), (2, replace), (1, delete)]);
        let what = if act == take_off {
            account.unassign_guardrail(hash);
            "takes it off its guardrail"
        } else if act == replace {
            let others = account.guardrails();
            let workspace = Some(&placed.key.workspace_id);
            let mut others = others
                .into_iter()
                .filter(|other| other.id != held && other.workspace_id.as_ref() == workspace);
            let Some(other) = others.next() else {
                return;
            };
            account.assign_guardrail(hash, &other.id).unwrap();
            "gives it another guardrail"
        } else {
            let keys = account.keys().into_iter().map(|key| key.hash);
            let held_too = |hash: &String| account.guardrail_of(hash).as_ref() == Some(&held);
            let bereft: Vec<String> = keys.filter(held_too).collect();
            account.delete_guardrail(&held).unwrap();
            self.guardrails(|seen| seen.bereft.extend(bereft.clone()));
            bereft.iter().for_each(|hash| self.tamper(hash));
            "deletes its guardrail"
        };
        self.tamper(hash);
        let name = self.story.name(hash);
        let told = format!("a person looks at {name} in the dashboard and {what}");
        self.story.tell_of(&[hash], told);
    }

    /// Operators put right what people have done to guardrails, and bind nobody any more.
    pub(crate) async fn mend_guardrails(self: &Arc<Self>) {
        self.make_guardrails();
        for name in ["default", "other"] {
            let path = format!("config/{name}");
            let asked = request(Operation::Patch, &path, unbound());
            if let (Err(reason), _) = self.ask(asked, None).await {
                self.violated(&format!("{path} cannot be unbound: {reason}"), &[]);
            }
        }
        let truth = self.truth();
        for role in truth.roles.iter().filter(|role| *role != "bad") {
            let entry = self.raft.stored(&format!("{MOUNT}roles/{role}"));
            let Some(definition) = self.definition(role, &entry) else {
                continue;
            };
            let keys = truth.rotating.get(role).into_iter();
            let keys: Vec<&str> = keys.flat_map(|entry| entry.keys()).collect();
            let is_there = |id: &Value| {
                let accounts = self.openrouter.accounts.iter();
                let mut guardrails = accounts.flat_map(Account::guardrails);
                guardrails.any(|guardrail| *id == guardrail.id)
            };
            let gone =
                !definition["guardrail_id"].is_null() && !is_there(&definition["guardrail_id"]);
            let bereft = self.guardrails(|seen| keys.iter().any(|key| seen.bereft.contains(*key)));
            if gone {
                let body = json!({"guardrail": definition["guardrail"]});
                let path = format!("roles/{role}");
                let _ = self.ask(request(Operation::Patch, &path, body), None).await;
            }
            if bereft {
                let path = format!("rotate-role/{role}");
                let _ = self
                    .ask(request(Operation::Update, &path, Value::Null), None)
                    .await;
            }
        }
    }
}

/// What must hold.
impl World {
    /// A reader gets this key from a server.
    pub(crate) async fn judge_guardrail(&self, node: &Arc<Node>, role: &str, hash: &str) {
        let Some(placed) = self.placed(hash) else {
            return;
        };
        let active = self.active();
        let in_office = active.is_some_and(|active| Arc::ptr_eq(&active, node));
        let (key, now, held) = (format!("roles/{role}"), self.now(), placed.held());
        let before = if in_office { AT_ONCE } else { DRAINED };
        let mut versions = self.in_force(&key, now, before);
        let newest = self.wanted(role, versions.first().unwrap_or(&None), &placed);
        if newest == Wanted::Nothing {
            return;
        }
        if newest == Wanted::Elsewhere {
            versions = self.in_force(&key, now, DRAINED);
        }
        if newest.accepts(held.as_ref()) {
            self.guardrails(|seen| seen.counted.guarded += 1);
            return;
        }
        let mut wanted = versions.iter().map(|one| self.wanted(role, one, &placed));
        if wanted.any(|wanted| wanted.accepts(held.as_ref())) {
            return;
        }
        let tampered = self.guardrails(|seen| seen.tampered.get(hash).copied());
        if let Some(since) = tampered
            && !compared(node, placed.is_other, since).await
        {
            self.guardrails(|seen| seen.counted.excused += 1);
            return;
        }
        let name = self.story.name(hash);
        let told =
            format!("{name} of {role} is handed out, held to {held:?} instead of {newest:?}");
        self.violated(&told, &[hash]);
    }

    /// OpenRouter has assigned keys to a guardrail for the engine.
    pub(crate) fn witness_assignment(&self, request: &HttpRequest, sent: &Sent) {
        let body = request.json.as_deref().unwrap_or_default();
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let hashes = body["key_hashes"].as_array().into_iter().flatten();
        for hash in hashes.filter_map(Value::as_str) {
            let Some(placed) = self.placed(hash) else {
                continue;
            };
            let (role, held) = (placed.role().to_owned(), placed.held());
            let name = self.story.name(hash);
            let id = held.as_deref().unwrap_or("nothing");
            let told = format!("S{}: {name} is held to {id}", sent.server);
            self.story.tell_of(&[hash], told);
            let now = self.now();
            let versions = self.in_force(&format!("roles/{role}"), now, LONG);
            let newest = versions.first().unwrap_or(&None);
            let accepted = |entry| self.wanted(&role, entry, &placed).accepts(held.as_ref());
            if accepted(newest) {
                self.guardrails(|seen| {
                    seen.counted.assigned += 1;
                    seen.tampered.remove(hash)
                });
            } else if now.duration_since(sent.at) > PROMPT {
                self.tamper(hash);
            } else if self
                .truth()
                .rotating
                .get(&role)
                .is_some_and(|entry| entry.keys().any(|key| key == hash))
                && !versions.iter().any(accepted)
            {
                let told = format!("{name} is assigned to a guardrail that {role} has no more");
                self.violated(&told, &[hash]);
            }
        }
    }

    /// OpenRouter has made a key for the engine.
    pub(crate) fn judge_bounds(&self, hash: &str, sent: &Sent) {
        let Some(placed) = self.placed(hash) else {
            return;
        };
        let (role, key) = (placed.role(), &placed.key);
        let connection = if placed.is_other { "other" } else { "default" };
        let path = format!("config/{connection}");
        let versions = self.in_force(&path, sent.at, DRAINED);
        let bounds = |entry: &Entry| self.definition_at(&path, entry);
        let within = |entry: &Entry| {
            let Some(bounds) = bounds(entry) else {
                return true;
            };
            let roles = bounds["allowed_roles"].as_array().unwrap().iter();
            let mut roles = roles.filter_map(Value::as_str);
            let limit = bounds["max_limit"].as_f64();
            let lifetime = bounds["max_key_lifetime"].as_i64();
            let lives = key
                .expires_at
                .map(|end| end.duration_since(sent.at).as_secs());
            roles.any(|one| one == "*" || one == role)
                && limit.is_none_or(|most| key.limit.is_some_and(|limit| limit <= most))
                && lifetime.is_none_or(|most| lives.is_some_and(|lives| lives <= most + 60))
        };
        let is_bound = |bounds: &Data| {
            !bounds["max_limit"].is_null()
                || !bounds["max_key_lifetime"].is_null()
                || bounds["allowed_roles"] != json!(["*"])
        };
        if versions
            .first()
            .and_then(bounds)
            .is_some_and(|bounds| is_bound(&bounds))
        {
            self.guardrails(|seen| seen.counted.bounded += 1);
        }
        if !versions.iter().any(within) {
            let name = self.story.name(hash);
            let told = format!("{name} of {role} is made beyond the bounds of {connection}");
            self.violated(&told, &[hash]);
        }
    }

    /// A snapshot was restored: nobody knows what was done about guardrails since it was taken.
    pub(crate) fn forget_guardrails(&self) {
        for key in self.openrouter.accounts.iter().flat_map(Account::keys) {
            self.tamper(&key.hash);
        }
    }

    /// Whether every key is held to what its role shows, when nothing has gone wrong for hours.
    pub(crate) fn judge_every_guardrail(&self) {
        let truth = self.truth();
        let rotating = truth.rotating.iter().filter(|(_, entry)| entry.serves);
        let mut keys: Vec<(String, String)> = Vec::new();
        for (role, entry) in rotating {
            let superseded = entry.superseded.iter().map(|(hash, _)| hash);
            let living = superseded.chain([&entry.current]);
            keys.extend(living.map(|hash| (role.clone(), hash.clone())));
        }
        let leases = self.leases().into_iter();
        keys.extend(leases.map(|lease| (lease.role, lease.key_hash)));
        for (role, hash) in keys {
            let entry = self.raft.stored(&format!("{MOUNT}roles/{role}"));
            let Some(placed) = self.placed(&hash) else {
                continue;
            };
            let Wanted::To(guardrail) = self.wanted(&role, &entry, &placed) else {
                continue;
            };
            let is_there = placed
                .account
                .guardrails()
                .iter()
                .any(|one| one.id == guardrail);
            let held = placed.held();
            if is_there && held.as_ref() != Some(&guardrail) {
                let name = self.story.name(&hash);
                let told = format!("{name} of {role} is held to {held:?} and not to {guardrail}");
                self.violated(&told, &[&hash]);
            }
        }
    }

    /// How often what must hold was put to the test.
    pub(crate) fn counted(&self) -> Counted {
        self.guardrails(|seen| seen.counted)
    }

    fn tamper(&self, hash: &str) {
        let now = self.now();
        self.guardrails(|seen| seen.tampered.insert(hash.to_owned(), now));
        self.witness.unseen();
    }

    fn placed(&self, hash: &str) -> Option<Placed<'_>> {
        let accounts = self.openrouter.accounts.iter().enumerate();
        let mut found = accounts.filter_map(|(number, account)| {
            let key = account.key(hash).filter(|key| key.deleted_at.is_none())?;
            let is_other = number > 0;
            Some(Placed {
                account,
                is_other,
                key,
            })
        });
        found.next()
    }

    /// What a version of a role says of a key.
    fn wanted(&self, role: &str, entry: &Entry, placed: &Placed<'_>) -> Wanted {
        let Some(definition) = self.definition(role, entry) else {
            return Wanted::Nothing;
        };
        let Some(guardrail) = definition["guardrail_id"].as_str() else {
            return Wanted::Nothing;
        };
        let workspace = definition["workspace_id"].as_str().map(str::to_owned);
        let workspace = workspace.unwrap_or_else(|| placed.account.default_workspace());
        let is_there = (definition["connection"] == "other") == placed.is_other
            && workspace == placed.key.workspace_id;
        if is_there {
            return Wanted::To(guardrail.to_owned());
        }
        if definition["credential_type"] == "dynamic" {
            return Wanted::Elsewhere;
        }
        // It keeps what it was made with.
        let superseded = definition["superseded_keys"].as_array().unwrap().iter();
        let mut keys = superseded.chain([&definition["current_key"]]);
        let key = keys.find(|key| key["hash"] == *placed.key.hash);
        let made_with = key.and_then(|key| key["guardrail_id"].as_str());
        made_with.map_or(Wanted::Nothing, |id| Wanted::To(id.to_owned()))
    }

    fn definition(&self, role: &str, entry: &Entry) -> Option<Data> {
        self.definition_at(&format!("roles/{role}"), entry)
    }

    /// What a read of a path would show of this entry.
    fn definition_at(&self, path: &str, entry: &Entry) -> Option<Data> {
        let map = Map::from([(format!("{MOUNT}{path}"), entry.clone()?)]);
        read(&*self.observer(map), path)
    }

    fn guardrails<T>(&self, act: impl FnOnce(&mut Seen) -> T) -> T {
        act(&mut self.guardrails.0.lock().unwrap())
    }
}

/// Whether a server has compared an account since something was changed there. Two comparisons may have
/// begun before that, the second of which was late.
async fn compared(node: &Arc<Node>, is_other: bool, since: Timestamp) -> bool {
    let path = if is_other {
        "config/other"
    } else {
        "config/default"
    };
    let asked = Request::new(Operation::Read, path);
    let Ok(Some(answer)) = node.backend.handle_request(asked).await else {
        return false;
    };
    let last = answer.data["last_reconciliation"].as_str();
    let last = last.and_then(|at| at.parse::<Timestamp>().ok());
    last.is_some_and(|last| last > since + TWO_INTERVALS)
}

fn unbound() -> Value {
    json!({"allowed_roles": "*", "max_limit": null, "max_key_lifetime": null})
}

/// In seconds: what a server in office has answered, it has read a moment ago.
const AT_ONCE: i64 = 1;
/// In seconds: so long what a role had may still be on its way to OpenRouter from a server in office.
const LONG: i64 = 20;
/// In seconds: longer than a deposed leader goes on, or a request takes.
const DRAINED: i64 = 150;
/// What takes longer was delayed on its way.
const PROMPT: SignedDuration = SignedDuration::from_millis(500);
const TWO_INTERVALS: SignedDuration = SignedDuration::from_hours(2);
