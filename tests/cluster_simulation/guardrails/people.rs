//! Who changes guardrails: operators, and people in the dashboard.

use std::sync::Arc;

use openrouter_simulator::{Account, NewGuardrail};
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::Operation;

use super::bounds::unbound;
use crate::node::MOUNT;
use crate::requests::request;
use crate::world::World;

/// Every workspace has one of each name.
const NAMES: [&str; 2] = ["strict", "lax"];

impl World {
    /// Creates the guardrails of every workspace, again if some were deleted.
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

    /// The guardrail of a role; often none.
    pub(crate) fn any_guardrail(&self) -> Option<&'static str> {
        let [strict, lax] = NAMES;
        self.dice
            .weighted(&[(2, None), (3, Some(strict)), (2, Some(lax))])
    }

    /// In the dashboard, a person removes a key from its guardrail, assigns another one, or deletes the
    /// guardrail.
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

    /// Operators repair what people have done to guardrails, and remove all bounds.
    pub(crate) async fn repair_guardrails(self: &Arc<Self>) {
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
            let Some(definition) = self.definition(role, entry.as_deref()) else {
                continue;
            };
            let definition = &definition.data;
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
