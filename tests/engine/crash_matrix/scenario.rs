//! What is interrupted: everything that the engine does in several effects.

use openrouter_simulator::{Fault, KeyChanges, NewGuardrail, NewKey};
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::Storage;

use crate::harness::{CI, FORGET, Harm, ROLE, ROTATE, World, role};

/// An operation of the engine with several effects.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scenario {
    FirstKey,
    ScheduledRotation,
    ManualRotation,
    EmergencyRotation,
    RotationOfAll,
    EmergencyForAll,
    Retirement,
    PostponedRetirement,
    Hold,
    EndOfAHold,
    EmergencyWithAHold,
    Restoration,
    Adoption,
    Reconciliation,
    LimitChange,
    DefinitionChange,
    RoleDeletion,
    ForgetRole,
    ConnectionReplacement,
    RecoveryOfNothing,
    RecoveryOfAKey,
    RecoveryOfTheLastStroke,
    RecoveryOfARejectedKey,
    Rejection,
    OlderStorage,
    OlderStorageAfterAnEmergency,
    Lease,
    LeaseRenewal,
    LeaseRevocation,
    LeaseLapse,
    RecoveryOfALease,
    BudgetLease,
    BudgetLeaseRenewal,
    BudgetLeaseRevocation,
    BudgetLeaseLapse,
    BudgetLeaseReading,
    RecoveryOfABudgetLease,
    BudgetRotation,
    BudgetEmergency,
    BudgetEnd,
    BudgetChange,
    BudgetHold,
    BudgetRestoration,
    BudgetAdoption,
    GuardedFirstKey,
    GuardedRotation,
    RecoveryOfAnUnguardedKey,
    GuardrailChange,
    GuardrailTakenOff,
    GuardedLease,
    GuardrailChangeOfLeases,
}

impl Scenario {
    pub(super) const ALL: [Self; 51] = [
        Self::FirstKey,
        Self::ScheduledRotation,
        Self::ManualRotation,
        Self::EmergencyRotation,
        Self::RotationOfAll,
        Self::EmergencyForAll,
        Self::Retirement,
        Self::PostponedRetirement,
        Self::Hold,
        Self::EndOfAHold,
        Self::EmergencyWithAHold,
        Self::Restoration,
        Self::Adoption,
        Self::Reconciliation,
        Self::LimitChange,
        Self::DefinitionChange,
        Self::RoleDeletion,
        Self::ForgetRole,
        Self::ConnectionReplacement,
        Self::RecoveryOfNothing,
        Self::RecoveryOfAKey,
        Self::RecoveryOfTheLastStroke,
        Self::RecoveryOfARejectedKey,
        Self::Rejection,
        Self::OlderStorage,
        Self::OlderStorageAfterAnEmergency,
        Self::Lease,
        Self::LeaseRenewal,
        Self::LeaseRevocation,
        Self::LeaseLapse,
        Self::RecoveryOfALease,
        Self::BudgetLease,
        Self::BudgetLeaseRenewal,
        Self::BudgetLeaseRevocation,
        Self::BudgetLeaseLapse,
        Self::BudgetLeaseReading,
        Self::RecoveryOfABudgetLease,
        Self::BudgetRotation,
        Self::BudgetEmergency,
        Self::BudgetEnd,
        Self::BudgetChange,
        Self::BudgetHold,
        Self::BudgetRestoration,
        Self::BudgetAdoption,
        Self::GuardedFirstKey,
        Self::GuardedRotation,
        Self::RecoveryOfAnUnguardedKey,
        Self::GuardrailChange,
        Self::GuardrailTakenOff,
        Self::GuardedLease,
        Self::GuardrailChangeOfLeases,
    ];

    /// The world in which the operation begins.
    pub(super) async fn prepare(self) -> World {
        if matches!(self, Self::FirstKey) {
            return World::connected().await;
        }
        if matches!(self, Self::Adoption) {
            let world = World::connected().await;
            let new = NewKey {
                limit: Some(2.0),
                ..NewKey::named("by hand")
            };
            world.openrouter.account().create_key(new);
            return world;
        }
        if matches!(self, Self::GuardedFirstKey) {
            let world = World::connected().await;
            guardrails(&world);
            return world;
        }
        if self.is_about_leases() {
            return self.prepare_leases().await;
        }
        if self.is_about_budgets() {
            return self.prepare_budget().await;
        }
        let world = World::with_role().await;
        match self {
            // Several keys, so that the scenario has several steps.
            Self::EmergencyRotation
            | Self::RotationOfAll
            | Self::EmergencyForAll
            | Self::Retirement
            | Self::RoleDeletion
            | Self::ForgetRole
            | Self::ConnectionReplacement => {
                world.write(ROTATE, Value::Null).await.unwrap();
                world.pass(60).await;
            }
            Self::PostponedRetirement => {
                world.write(ROTATE, Value::Null).await.unwrap();
                world.node().life.end();
                world.time.set(world.after(900));
            }
            Self::Hold | Self::EndOfAHold | Self::EmergencyWithAHold | Self::Restoration => {
                world
                    .write(ROLE, json!({"revocation_hold": 700}))
                    .await
                    .unwrap();
                world.write(ROTATE, Value::Null).await.unwrap();
                let held = matches!(self, Self::EndOfAHold | Self::Restoration);
                world.pass(if held { 610 } else { 60 }).await;
            }
            // One finding of each kind that is repaired by a request.
            Self::Reconciliation => {
                let body = json!({"revocation_hold": 7_000, "rotation_period": "30d"});
                world.write(ROLE, body).await.unwrap();
                world.write(ROTATE, Value::Null).await.unwrap();
                world.pass(610).await;
                world.write(ROTATE, Value::Null).await.unwrap();
                let account = world.openrouter.account();
                let keys: Vec<String> = account.keys().into_iter().map(|key| key.hash).collect();
                account.set_disabled(&keys[0], false).unwrap();
                account.delete_key(&keys[1]).unwrap();
                let limit = Some(Some(99.0));
                let changes = KeyChanges {
                    limit,
                    ..KeyChanges::default()
                };
                account.change_key(&keys[2], &changes).unwrap();
            }
            Self::RecoveryOfNothing => world.die_during_a_rotation("before POST /keys").await,
            Self::RecoveryOfAKey => world.die_during_a_rotation("after POST /keys").await,
            Self::RecoveryOfTheLastStroke => {
                world.die_during_a_rotation("after put roles/app").await;
            }
            Self::RecoveryOfARejectedKey => {
                // In a workspace that is not compared.
                let account = world.openrouter.account();
                let (home, elsewhere) = (account.add_workspace(), account.add_workspace());
                let body = json!({"workspace_id": home});
                world.write(ROLE, body).await.unwrap();
                makes_otherwise(
                    &world,
                    KeyChanges {
                        workspace_id: Some(elsewhere),
                        ..KeyChanges::default()
                    },
                );
                world.die_during_a_rotation("before DELETE /keys/*").await;
            }
            Self::GuardedRotation => guard(&world, ROLE).await,
            Self::RecoveryOfAnUnguardedKey => {
                guard(&world, ROLE).await;
                world.die_during_a_rotation("after POST /keys").await;
            }
            Self::GuardrailChange => {
                guard(&world, ROLE).await;
                world.write(ROTATE, Value::Null).await.unwrap();
            }
            Self::GuardrailTakenOff => {
                guard(&world, ROLE).await;
                world.write(ROTATE, Value::Null).await.unwrap();
                for key in world.openrouter.account().keys() {
                    world.openrouter.account().unassign_guardrail(&key.hash);
                }
            }
            Self::OlderStorage => forget_rotations(&world, [json!({}), json!({})]).await,
            Self::OlderStorageAfterAnEmergency => {
                forget_rotations(&world, [json!({"rotation_grace_period": 0})]).await;
            }
            _ => {}
        }
        world.quiet().await;
        world
    }

    async fn prepare_budget(self) -> World {
        let world = World::connected().await;
        if matches!(self, Self::BudgetAdoption) {
            let account = world.openrouter.account();
            let by_hand = account.create_key(NewKey::named("by hand"));
            account.set_usage(&by_hand.hash, 40.0).unwrap();
            return world;
        }
        world.write(ROLE, role_with_budget()).await.unwrap();
        let hash = world.key("app").await.unwrap()["key_hash"].clone();
        let account = world.openrouter.account();
        account.set_usage(hash.as_str().unwrap(), 40.0).unwrap();
        if matches!(self, Self::BudgetEnd | Self::BudgetEmergency) {
            world.write(ROTATE, Value::Null).await.unwrap();
        }
        if matches!(self, Self::BudgetHold | Self::BudgetRestoration) {
            let body = json!({"revocation_hold": 700});
            world.write(ROLE, body).await.unwrap();
            world.write(ROTATE, Value::Null).await.unwrap();
        }
        if matches!(self, Self::BudgetRestoration) {
            world.pass(1_210).await;
        }
        world.quiet().await;
        world
    }

    async fn prepare_leases(self) -> World {
        let world = World::with_dynamic_role().await;
        if self.is_about_budgets_of_leases() {
            // Room for one lease, and for another only when the first has returned what it did not spend.
            let body = json!({"limit": 1, "budget": 1.3});
            world.write(CI, body).await.unwrap();
        }
        match self {
            Self::LeaseRenewal
            | Self::LeaseRevocation
            | Self::BudgetLeaseRenewal
            | Self::BudgetLeaseRevocation => {
                world.lease().await.unwrap();
            }
            Self::BudgetLeaseReading => {
                world.lease().await.unwrap();
                world.revoke().await.unwrap();
            }
            // The server died before it stored the lease.
            Self::LeaseLapse | Self::BudgetLeaseLapse => {
                world.read("creds/ci").await.unwrap();
            }
            Self::GuardedLease => guard(&world, CI).await,
            Self::GuardrailChangeOfLeases => {
                guard(&world, CI).await;
                // So that they are alive when they are judged.
                world.write(CI, json!({"ttl": 3_000})).await.unwrap();
                world.lease().await.unwrap();
                world.lease().await.unwrap();
            }
            Self::RecoveryOfALease | Self::RecoveryOfABudgetLease => {
                world.die_during("after POST /keys", world.lease()).await;
            }
            _ => {}
        }
        if self.is_about_budgets_of_leases() {
            let account = world.openrouter.account();
            for key in account.keys() {
                account.set_usage(&key.hash, 0.25).unwrap();
            }
        }
        world.quiet().await;
        world
    }

    /// The interrupted operation. It may be run twice: the server also repeats a request whose process died.
    pub(super) async fn act(self, world: &World) {
        if self.is_about_leases() {
            self.act_on_leases(world).await;
            return world.quiet().await;
        }
        let body = match self {
            Self::FirstKey => role(),
            Self::GuardedFirstKey => {
                let mut role = role();
                role["guardrail"] = json!("strict");
                role
            }
            Self::GuardrailChange => json!({"guardrail": "stricter"}),
            Self::EmergencyRotation
            | Self::EmergencyWithAHold
            | Self::EmergencyForAll
            | Self::BudgetEmergency => json!({"rotation_grace_period": 0}),
            Self::Restoration | Self::BudgetRestoration => {
                json!({"key_version": 1, "duration": 3_000})
            }
            Self::BudgetChange => json!({"budget": 60, "budget_reset": "monthly"}),
            Self::LimitChange => json!({"limit": 7, "limit_reset": "daily"}),
            Self::DefinitionChange => {
                json!({"ttl": 60, "rotation_grace_period": 100, "key_name": "new"})
            }
            _ => json!({}),
        };
        // The remaining steps find out whether it was carried out.
        let _ = match self {
            Self::FirstKey
            | Self::LimitChange
            | Self::DefinitionChange
            | Self::BudgetChange
            | Self::GuardedFirstKey
            | Self::GuardrailChange => world.write(ROLE, body).await,
            Self::ManualRotation
            | Self::EmergencyRotation
            | Self::EmergencyWithAHold
            | Self::BudgetRotation
            | Self::BudgetEmergency
            | Self::GuardedRotation => world.write(ROTATE, body).await,
            Self::Restoration | Self::BudgetRestoration => {
                world.write("restore-key/app", body).await
            }
            Self::Adoption | Self::BudgetAdoption => {
                let by_hand = world.openrouter.account().all_keys().remove(0);
                assert!(by_hand.deleted_at.is_none(), "whatever happens, it lives");
                let mut body = match self {
                    Self::BudgetAdoption => role_with_budget(),
                    _ => role(),
                };
                body["api_key"] = by_hand.secret().into();
                world.write(ROLE, body).await
            }
            Self::RotationOfAll | Self::EmergencyForAll => {
                world.write("rotate-all/default", body).await
            }
            Self::RoleDeletion => world.delete(ROLE, body).await,
            Self::ForgetRole => world.write(FORGET, body).await,
            Self::ConnectionReplacement => {
                let key = world.openrouter.account().add_management_key();
                world.write("config", json!({"management_key": key})).await
            }
            Self::ScheduledRotation => {
                world.pass(3600).await;
                Ok(None)
            }
            Self::Retirement | Self::Hold => {
                world.pass(600).await;
                Ok(None)
            }
            Self::BudgetEnd | Self::BudgetHold => {
                world.pass(1_300).await;
                Ok(None)
            }
            Self::EndOfAHold => {
                world.pass(700).await;
                Ok(None)
            }
            Self::Rejection => {
                let limit = Some(Some(99.0));
                makes_otherwise(
                    world,
                    KeyChanges {
                        limit,
                        ..KeyChanges::default()
                    },
                );
                let rejected = world.write(ROTATE, body).await;
                world.openrouter.faults().clear();
                world.write(ROTATE, json!({})).await.and(rejected)
            }
            Self::PostponedRetirement
            | Self::Reconciliation
            | Self::RecoveryOfNothing
            | Self::RecoveryOfAKey
            | Self::RecoveryOfTheLastStroke
            | Self::RecoveryOfARejectedKey
            | Self::RecoveryOfAnUnguardedKey
            | Self::OlderStorage
            | Self::OlderStorageAfterAnEmergency => {
                world.restart().await;
                world.pass(700).await;
                Ok(None)
            }
            Self::GuardrailTakenOff => {
                world.restart().await;
                world.quiet().await;
                for _ in 0..700 {
                    if is_noticed(world).await {
                        break;
                    }
                    world.pass(1).await;
                }
                // Between the change in the dashboard and the comparison, the key is handed out, since no
                // node can know. After that it is not.
                world.forgive_unguarded();
                world.pass(700).await;
                Ok(None)
            }
            _ => unreachable!("{self:?} is about leases"),
        };
        world.quiet().await;
    }

    async fn act_on_leases(self, world: &World) {
        // As above.
        match self {
            Self::Lease | Self::GuardedLease | Self::BudgetLease => drop(world.lease().await),
            Self::GuardrailChangeOfLeases => {
                let _ = world.write(CI, json!({"guardrail": "stricter"})).await;
            }
            Self::LeaseRenewal | Self::BudgetLeaseRenewal => {
                let _ = world.renew(600).await;
            }
            Self::LeaseRevocation => {
                let _ = world.revoke().await;
            }
            Self::BudgetLeaseRevocation => {
                let _ = world.revoke().await;
                world.pass(700).await;
            }
            Self::LeaseLapse | Self::BudgetLeaseReading => world.pass(700).await,
            Self::BudgetLeaseLapse => world.pass(1_300).await,
            Self::RecoveryOfABudgetLease => {
                world.restart().await;
                world.pass(1_300).await;
            }
            _ => {
                world.restart().await;
                world.pass(700).await;
            }
        }
    }

    /// Whether its role has a budget.
    pub(super) fn is_about_budgets(self) -> bool {
        matches!(
            self,
            Self::BudgetRotation
                | Self::BudgetEmergency
                | Self::BudgetEnd
                | Self::BudgetChange
                | Self::BudgetHold
                | Self::BudgetRestoration
                | Self::BudgetAdoption
        )
    }

    /// Whether its dynamic role has a budget.
    pub(super) fn is_about_budgets_of_leases(self) -> bool {
        matches!(
            self,
            Self::BudgetLease
                | Self::BudgetLeaseRenewal
                | Self::BudgetLeaseRevocation
                | Self::BudgetLeaseLapse
                | Self::BudgetLeaseReading
                | Self::RecoveryOfABudgetLease
        )
    }

    /// Whether its world has a dynamic role instead of the rotating role.
    pub(super) fn is_about_leases(self) -> bool {
        let is_plain = matches!(
            self,
            Self::Lease
                | Self::LeaseRenewal
                | Self::LeaseRevocation
                | Self::LeaseLapse
                | Self::RecoveryOfALease
                | Self::GuardedLease
                | Self::GuardrailChangeOfLeases
        );
        is_plain || self.is_about_budgets_of_leases()
    }

    /// A forgotten role leaves keys behind that it cannot revoke; see `deletion.rs`.
    pub(super) fn may_give_up_under(self, harm: Harm) -> bool {
        harm == Harm::Fault && matches!(self, Self::ForgetRole)
    }

    /// Whether it revokes keys that readers rely on, on purpose.
    pub(super) fn is_ruthless(self) -> bool {
        matches!(
            self,
            Self::EmergencyRotation
                | Self::EmergencyWithAHold
                | Self::EmergencyForAll
                // Keys are deleted in the dashboard.
                | Self::Reconciliation
                | Self::RoleDeletion
                | Self::ForgetRole
                | Self::OlderStorageAfterAnEmergency
                | Self::BudgetEmergency
        )
    }
}

fn role_with_budget() -> Value {
    let mut body = role();
    body["limit"] = Value::Null;
    body["budget"] = json!(100);
    body["budget_reset"] = json!("daily");
    body
}

/// Creates two guardrails.
fn guardrails(world: &World) {
    for name in ["strict", "stricter"] {
        let account = world.openrouter.account();
        account.add_guardrail(NewGuardrail::named(name));
    }
}

/// Gives the role the first of them.
async fn guard(world: &World, role: &str) {
    guardrails(world);
    let body = json!({"guardrail": "strict"});
    world.write(role, body).await.unwrap();
}

/// Whether the role reports that its keys were removed from their guardrail, or they have it again.
async fn is_noticed(world: &World) -> bool {
    let account = world.openrouter.account();
    let is_held = |key: &openrouter_simulator::Key| {
        world.is_unowned(&key.hash) || account.guardrail_of(&key.hash).is_some()
    };
    if account.keys().iter().all(is_held) {
        return true;
    }
    let stored = world.storage.get(ROLE).await.unwrap().unwrap();
    let stored: Value = serde_json::from_slice(&stored).unwrap();
    stored["entry"]["rotating"]["current"]["guardrail_unproved"] == true
}

/// The role is rotated, readers get its keys, and then storage is reset.
async fn forget_rotations(world: &World, rotations: impl IntoIterator<Item = Value>) {
    let snapshot = world.snapshot();
    for rotation in rotations {
        world.write(ROTATE, rotation).await.unwrap();
        world.pass(60).await;
    }
    world.restore(snapshot).await;
}

/// The next key differs from what was ordered.
fn makes_otherwise(world: &World, changes: KeyChanges) {
    let faults = world.openrouter.faults();
    faults.clear();
    faults.add(Fault::CreatedOtherwise(changes).on("POST", "/keys"));
}
