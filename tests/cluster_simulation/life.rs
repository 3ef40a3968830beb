//! One life: a world is set up, gets into trouble step by step, and comes to rest.

use std::sync::Arc;
use std::time::Duration;

use openrouter_simulator::NewKey;
use serde_json::Value;
use tokio::time::sleep;
use vault_plugin_secrets_openrouter::logical::Operation;

use crate::people::{DYNAMIC, ROTATING};
use crate::truth::Rotating;
use crate::weather::Weather;
use crate::witness::{Violation, nonce_of};
use crate::world::{BlowKind, World};

/// The outcome of a life.
pub(crate) struct Outcome {
    pub(crate) violations: Vec<Violation>,
    pub(crate) world: Arc<World>,
}

/// Runs the life of this seed.
pub(crate) fn live(seed: u64) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let world = runtime.block_on(async {
        let world = World::new(seed);
        set_up(&world).await;
        let readers = tokio::spawn(Arc::clone(&world).readers_live());
        let applications = tokio::spawn(Arc::clone(&world).applications_live());
        let standbys = tokio::spawn(Arc::clone(&world).standbys_live());
        tokio::spawn(Arc::clone(&world).windows_end());
        for _ in 0..world.dice.number(20, 50) {
            step(&world).await;
        }
        readers.abort();
        applications.abort();
        standbys.abort();
        let_everything_settle(&world).await;
        world
    });
    drop(runtime);
    // An engine holds on to its world, which would otherwise never be dropped.
    world.end_every_engine();
    Outcome {
        violations: world.witness.violations(),
        world,
    }
}

async fn set_up(world: &Arc<World>) {
    let [first, _] = &world.openrouter.accounts;
    first.add_workspace();
    world.make_guardrails();
    world.change_lag();
    world.elect(0);
    for name in ["default", "other"] {
        world.connect(name, None).await.unwrap();
    }
    if world.budgets.are_there() {
        // Otherwise there would often be little to spend.
        world.create_all().await;
    }
    if world.dice.chance(0.15) {
        first.create_keys("somebody's", 96);
    }
    world
        .raft
        .note(("mount/roles/bad".to_owned(), garbage(world)));
}

/// In some lives a role has an unreadable entry.
fn garbage(world: &World) -> Option<Vec<u8>> {
    let is_there = world.dice.chance(0.1);
    is_there.then(|| br#"{"version":7,"entry":{}}"#.to_vec())
}

async fn step(world: &Arc<World>) {
    if world.dice.chance(0.2) {
        world.set_weather(Weather::any(&world.dice));
        let weather = world.weather();
        world.story.tell(format!("--- {weather:?}"));
        world.change_lag();
    }
    if world.dice.chance(0.35) {
        world.trouble();
    }
    if world.dice.chance(0.06) {
        tokio::spawn(Arc::clone(world).order_a_run());
    }
    match world.dice.number(0, 19) {
        0..12 => {
            let acting = tokio::spawn(Arc::clone(world).operator_acts());
            if world.dice.chance(0.5) {
                let _ = acting.await;
            }
        }
        12 => world.person_acts(),
        13 | 14 => world.restore(),
        15 => world.inflict(*world.dice.pick(&[BlowKind::Depose, BlowKind::KillServer])),
        16 => {
            for _ in 0..world.dice.number(1, 5) {
                let world = Arc::clone(world);
                tokio::spawn(async move { world.read(DYNAMIC).await });
            }
        }
        17 => world.holder_acts(world.dice.chance(0.5)).await,
        18 if world.dice.chance(0.6) => rest_as_a_secondary(world),
        _ => crowd(world),
    }
    sleep(world.dice.pause(100, 3 * 3_600_000)).await;
    world.look_for_orphans(false);
    world.look_for_lost_connections();
}

/// The whole cluster follows another one for a while.
fn rest_as_a_secondary(world: &Arc<World>) {
    world.story.tell("--- the cluster is a secondary");
    world.secondary.set(true);
    let world = Arc::clone(world);
    tokio::spawn(async move {
        sleep(world.dice.pause(1_000, 3_600_000)).await;
        world.secondary.set(false);
        world.story.tell("--- the cluster is a primary again");
    });
}

/// Other clients create many keys, or a few or many keys of a role exist that storage does not know, as after
/// an old snapshot was restored. They are where one of the role's keys is, which may differ from where the
/// next one will be.
fn crowd(world: &Arc<World>) {
    let accounts = &world.openrouter.accounts;
    if world.dice.chance(0.4) {
        world.story.tell("others make 60 keys");
        accounts[0].create_keys("somebody's", 60);
        return;
    }
    let truth = world.truth();
    let mut known = Vec::new();
    for (role, entry) in &truth.rotating {
        for hash in entry.keys() {
            let found = accounts.iter().find_map(|account| {
                let key = account.key(hash)?;
                Some((account, key))
            });
            known.extend(found.map(|(account, key)| (role, account, key)));
        }
    }
    if known.is_empty() {
        return;
    }
    let (role, account, key) = world.dice.pick(&known);
    let Some(marker) = nonce_of(&key.name).and_then(|nonce| nonce.get(..16)) else {
        return;
    };
    let (few, many) = (world.dice.number(1, 3), world.dice.number(90, 160));
    // Many of them cost as much as ten other lives.
    let count = world.dice.weighted(&[(11, few), (1, many)]);
    world.story.tell(format!(
        "{count} keys of {role}'s appear that storage knows nothing of"
    ));
    let first = world.dice.number(0, u64::MAX / 2);
    for number in first..first + count {
        let nonce = format!("{marker}{number:016x}");
        let mut new = NewKey::named(format!("{role} 2026-11-20 vault-{nonce}"));
        new.workspace_id = Some(key.workspace_id.clone());
        let made = account.create_key(new);
        world.witness_stray(&made.hash, role, &nonce);
    }
}

/// Nothing goes wrong any more, and there is time for everything.
async fn let_everything_settle(world: &Arc<World>) {
    world.story.tell("--- calm");
    world.set_weather(Weather::CALM);
    world.note_calm();
    world.cancel_blows();
    world.let_standbys_catch_up();
    world.plug_in_again();
    // Longer than any request, and any deposed leader, lasts.
    sleep(Duration::from_secs(4 * 60)).await;
    world.secondary.set(false);
    for name in ["default", "other"] {
        if let Err(reason) = world.connect(name, None).await {
            world.violated(
                &format!("connection {name} cannot be written: {reason}"),
                &[],
            );
        }
    }
    world.end_teardown().await;
    world.repair_guardrails().await;
    if world.witness.has_unseen() || world.dice.chance(0.5) {
        world.inflict(BlowKind::Depose);
        sleep(Duration::from_secs(120)).await;
    }
    sleep(Duration::from_secs(4 * 3_600)).await;
    world.await_reset().await;
    // The end may come during a rotation.
    for _ in 0..20 {
        if is_at_rest(world) {
            break;
        }
        sleep(Duration::from_secs(60)).await;
    }
    judge(world).await;
    world.judge_standbys().await;
    world.judge_last_windows().await;
}

/// Nothing is due, and nothing is being created.
fn is_at_rest(world: &World) -> bool {
    let (truth, now) = (world.truth(), world.now());
    let is_due = |entry: &Rotating| {
        let mut ends = entry.ending().chain(&entry.held);
        entry.message(world).starts_with("due since") || ends.any(|(_, end)| *end <= now)
    };
    truth.log.is_empty() && !truth.rotating.values().any(|entry| is_due(entry))
}

async fn judge(world: &Arc<World>) {
    world.look_for_runs().await;
    world.look_for_orphans(true);
    world.judge_every_guardrail();
    let now = world.now();
    let truth = world.truth();
    for (nonce, is_lease) in &truth.log {
        let kind = if *is_lease { "lease" } else { "intent" };
        let told = format!("the {kind} {nonce} is still in the log");
        world.violated(&told, &[nonce]);
    }
    for (role, entry) in &truth.rotating {
        let (serves, message) = (entry.serves(world), entry.message(world));
        for (hash, due) in entry.ending().filter(|(_, due)| *due <= now) {
            let name = world.story.name(hash);
            world.violated(
                &format!("{name} of {role} was to be revoked at {due}"),
                &[hash],
            );
        }
        let find = |hash: &str| {
            let mut accounts = world.openrouter.accounts.iter();
            accounts.find_map(|account| account.key(hash))
        };
        for (hash, until) in &entry.held {
            let is_held = find(hash).is_some_and(|key| key.disabled || key.is_expired(now));
            if *until <= now || !is_held {
                let name = world.story.name(hash);
                let told = format!("{name} of {role} works, or was to be deleted at {until}");
                world.violated(&told, &[hash]);
            }
        }
        let key = find(&entry.current);
        let spends = key.as_ref().and_then(|key| key.limit);
        if entry.automated && serves && entry.has_budget {
            world.judge_unlocked(role, entry);
        } else if entry.automated && serves && spends != entry.limit {
            let (name, limit) = (world.story.name(&entry.current), entry.limit);
            let told = format!("{name} of {role} may spend {spends:?} instead of {limit:?}");
            world.violated(&told, &[&entry.current]);
        }
        let works = key.is_some_and(|key| key.is_usable(now));
        if entry.automated && message.starts_with("due since") {
            let told = format!("the rotation of {role} is {message}");
            world.violated(&told, &[&entry.current]);
        }
        if entry.automated && !(works && serves) {
            let name = world.story.name(&entry.current);
            let told = format!("{role} has no key that works, its {name} is dead ({message})");
            world.violated(&told, &[&entry.current]);
        }
    }
    for role in ROTATING {
        let entry = truth.rotating.get(role);
        if entry.is_some_and(|entry| entry.automated)
            && let Err(reason) = world.read_patiently(role).await
        {
            world.violated(&format!("{role} cannot be read: {reason}"), &[]);
        }
    }
    if truth.roles.contains(DYNAMIC)
        && let Err(reason) = world.read_patiently(DYNAMIC).await
        && !world.has_no_room(&reason)
    {
        world.violated(&format!("{DYNAMIC} has no room for a lease: {reason}"), &[]);
    }
    let unused = world
        .operate(Operation::Read, "config/default", Value::Null)
        .await;
    if unused.is_err() {
        world.violated("the connection cannot be read", &[]);
    }
}
