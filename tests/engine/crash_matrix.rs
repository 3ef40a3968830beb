//! Every scenario, cut off after every one of its effects: nothing is lost, nothing dies early, and
//! nobody has to help.

use std::fmt::Write;

use openrouter_simulator::{Fault, KeyChanges};
use serde_json::{Value, json};

use crate::harness::{Harm, ROLE, ROTATE, World, role};

#[test]
fn wherever_the_process_dies_its_successor_puts_everything_right() {
    matrix(Harm::Crash);
}

#[test]
fn wherever_storage_or_openrouter_fail_once_the_engine_puts_everything_right() {
    matrix(Harm::Fault);
}

/// Something that the engine does in several effects.
#[derive(Clone, Copy, Debug)]
enum Scenario {
    FirstKey,
    ScheduledRotation,
    ManualRotation,
    EmergencyRotation,
    Retirement,
    LimitChange,
    DefinitionChange,
    RoleDeletion,
    ForcedDeletion,
    ConnectionReplacement,
    RecoveryOfNothing,
    RecoveryOfAKey,
    RecoveryOfTheLastStroke,
    RecoveryOfARejectedKey,
    Rejection,
}

impl Scenario {
    const ALL: [Self; 15] = [
        Self::FirstKey,
        Self::ScheduledRotation,
        Self::ManualRotation,
        Self::EmergencyRotation,
        Self::Retirement,
        Self::LimitChange,
        Self::DefinitionChange,
        Self::RoleDeletion,
        Self::ForcedDeletion,
        Self::ConnectionReplacement,
        Self::RecoveryOfNothing,
        Self::RecoveryOfAKey,
        Self::RecoveryOfTheLastStroke,
        Self::RecoveryOfARejectedKey,
        Self::Rejection,
    ];

    /// The world in which it begins.
    async fn prepare(self) -> World {
        if matches!(self, Self::FirstKey) {
            return World::connected().await;
        }
        let world = World::with_role().await;
        match self {
            // Several keys, so that the scenario has something to go through.
            Self::EmergencyRotation
            | Self::Retirement
            | Self::RoleDeletion
            | Self::ForcedDeletion
            | Self::ConnectionReplacement => {
                world.write(ROTATE, Value::Null).await.unwrap();
                world.pass(60).await;
            }
            Self::RecoveryOfNothing => world.die_during_a_rotation("before POST /keys").await,
            Self::RecoveryOfAKey => world.die_during_a_rotation("after POST /keys").await,
            Self::RecoveryOfTheLastStroke => {
                world.die_during_a_rotation("after put roles/app").await;
            }
            Self::RecoveryOfARejectedKey => {
                // In another workspace than is looked through.
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
            _ => {}
        }
        world.quiet().await;
        world
    }

    /// What is cut off. May be done twice: so does the server with a request whose process died.
    async fn act(self, world: &World) {
        let body = match self {
            Self::FirstKey => role(),
            Self::EmergencyRotation => json!({"rotation_grace_period": 0}),
            Self::LimitChange => json!({"limit": 7, "limit_reset": "daily"}),
            Self::DefinitionChange => {
                json!({"ttl": 60, "rotation_grace_period": 100, "key_name": "new"})
            }
            Self::ForcedDeletion => json!({"force": true}),
            _ => json!({}),
        };
        // Whether it was carried out is what the rest finds out.
        let _ = match self {
            Self::FirstKey | Self::LimitChange | Self::DefinitionChange => {
                world.write(ROLE, body).await
            }
            Self::ManualRotation | Self::EmergencyRotation => world.write(ROTATE, body).await,
            Self::RoleDeletion | Self::ForcedDeletion => world.delete(ROLE, body).await,
            Self::ConnectionReplacement => {
                let key = world.openrouter.account().add_management_key();
                world.write("config", json!({"management_key": key})).await
            }
            Self::ScheduledRotation => {
                world.pass(3600).await;
                Ok(None)
            }
            Self::Retirement => {
                world.pass(600).await;
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
            Self::RecoveryOfNothing
            | Self::RecoveryOfAKey
            | Self::RecoveryOfTheLastStroke
            | Self::RecoveryOfARejectedKey => {
                world.restart().await;
                world.pass(700).await;
                Ok(None)
            }
        };
        world.quiet().await;
    }

    /// A deletion by force leaves behind what it cannot delete; see `deletion.rs`.
    fn may_give_up_under(self, harm: Harm) -> bool {
        harm == Harm::Fault && matches!(self, Self::ForcedDeletion)
    }

    /// Whether it takes keys from people who rely on them, which is then what was asked for.
    fn is_ruthless(self) -> bool {
        matches!(
            self,
            Self::EmergencyRotation | Self::RoleDeletion | Self::ForcedDeletion
        )
    }
}

/// The next key is another one than was ordered.
fn makes_otherwise(world: &World, changes: KeyChanges) {
    let faults = world.openrouter.faults();
    faults.clear();
    faults.add(Fault::CreatedOtherwise(changes).on("POST", "/keys"));
}

/// Runs every scenario once for each of its points. Each has a thread, and a runtime, of its own.
fn matrix(harm: Harm) {
    let explore = |scenario| std::thread::spawn(move || explore(scenario, harm));
    let scenarios = Scenario::ALL
        .into_iter()
        .filter(|s| !s.may_give_up_under(harm));
    let runs: Vec<_> = scenarios.map(|s| (s, explore(s))).collect();
    let (mut total, mut wrong, mut table) = (0, Vec::new(), String::new());
    for (scenario, run) in runs {
        let (points, found) = run.join().expect("a scenario runs to its end");
        writeln!(table, "{points:>5}  {scenario:?}").unwrap();
        total += points;
        wrong.extend(found);
    }
    println!(
        "{harm:?} at {total} points, {} violations:\n{table}",
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Returns how many points a scenario has, and what was wrong after harm at each of them.
fn explore(scenario: Scenario, harm: Harm) -> (usize, Vec<String>) {
    let play = |at| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(play(scenario, harm, at))
    };
    let (points, mut wrong) = play(None);
    assert!(!points.is_empty(), "{scenario:?} has no effect");
    for (number, point) in points.iter().enumerate() {
        let (_, found) = play(Some(number));
        let place = format!(
            "{scenario:?}, {harm:?} {number} of {}, {point}",
            points.len()
        );
        wrong.extend(found.into_iter().map(|found| format!("{place}: {found}")));
    }
    (points.len(), wrong)
}

/// Plays a scenario through, and returns its points and what was wrong afterwards.
async fn play(scenario: Scenario, harm: Harm, at: Option<usize>) -> (Vec<String>, Vec<String>) {
    let world = scenario.prepare().await;
    world.effects.record(harm, at);
    let crashed = tokio::select! {
        () = scenario.act(&world) => false,
        () = world.effects.crash() => true,
    };
    let points = world.effects.stop();
    if crashed {
        world.quiet().await;
        world.restart().await;
    }
    let mut wrong = Wrong::default();
    wrong.at_rest(&world, "after it").await;
    if at.is_some() {
        scenario.act(&world).await;
        wrong.at_rest(&world, "after it was repeated").await;
        wrong.note("after it was repeated", world.complaints().await);
    }
    if !scenario.is_ruthless() {
        let rotated = world.write(ROTATE, Value::Null).await;
        wrong.note(
            "rotating again",
            rotated.err().map(|reason| reason.to_string()),
        );
        wrong.at_rest(&world, "after another rotation").await;
        wrong.note("after another rotation", world.complaints().await);
        wrong.note("all in all", world.broken_promises());
    }
    (points, wrong.0)
}

/// What was wrong, and when.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn note(&mut self, when: &str, found: impl IntoIterator<Item = String>) {
        self.0
            .extend(found.into_iter().map(|found| format!("{when}, {found}")));
    }

    /// Lets everything come to rest, and judges it.
    async fn at_rest(&mut self, world: &World, when: &str) {
        world.pass(LONG_ENOUGH).await;
        self.note(when, world.violations().await);
    }
}

/// In seconds: twice as long as the engine takes to be sure that an order has settled, and half as
/// long as the role's period.
const LONG_ENOUGH: i64 = 1_200;
