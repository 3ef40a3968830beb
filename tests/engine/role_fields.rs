//! Every field of a role, every way to change it, and the effect on living keys and on the next key. The list
//! of fields is the engine's own: a field without a row here makes the test fail.

use std::collections::BTreeMap;

use openrouter_simulator::{Account, Key, KeyChanges, MemberRole, NewGuardrail};
use serde_json::{Map, Value, json};
use vault_plugin_secrets_openrouter::logical::Operation;

use crate::harness::{CI, ROLE, ROTATE, World};

/// The effect of a change of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// None.
    Nothing,
    /// The current key has it at once; superseded keys, and keys under leases, are unchanged.
    Current,
    /// Every living key has it at once.
    Living,
    /// The next key has it.
    Next,
    /// It is refused.
    Refused,
}
use Effect::{Current, Living, Next, Nothing, Refused};

/// A field: two values, the effect of a change for either kind of role (`None`: it does not have the field),
/// the effect of `null`, and the corresponding part of a key.
struct Row {
    values: [Value; 2],
    rotating: Option<Effect>,
    dynamic: Option<Effect>,
    cleared: Option<Effect>,
    part: Part,
    /// For which keys a change at OpenRouter is repaired when the work begins: the current key and those
    /// under leases, or all living keys.
    put_back: Option<Effect>,
}

/// The part of a key that shows a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    No,
    Account,
    Name,
    Limit,
    Reset,
    Byok,
    Workspace,
    Guardrail,
    Creator,
    Lifetime,
}

/// What a role can refer to.
struct Names {
    workspaces: [String; 2],
    guardrails: [String; 2],
    members: [String; 2],
    other: Account,
}

fn row(field: &str, names: &Names) -> Row {
    let both = |values: [Value; 2], effect, part| Row {
        values,
        rotating: Some(effect),
        dynamic: Some(effect),
        cleared: None,
        part,
        put_back: None,
    };
    let of_limits = |values, part| Row {
        dynamic: Some(Next),
        put_back: Some(Current),
        ..both(values, Current, part)
    };
    let rotating = |values| Row {
        dynamic: None,
        ..both(values, Nothing, Part::No)
    };
    let cleared = |effect, row| Row {
        cleared: Some(effect),
        ..row
    };
    match field {
        "credential_type" => Row {
            values: [json!("rotating"), json!("dynamic")],
            ..both([json!(null), json!(null)], Refused, Part::No)
        },
        "connection" => both([json!("default"), json!("other")], Next, Part::Account),
        "key_name" => both([json!("one"), json!("two")], Next, Part::Name),
        "limit" => cleared(Current, of_limits([json!(5.0), json!(7.0)], Part::Limit)),
        "limit_reset" => cleared(
            Current,
            of_limits([json!("daily"), json!("weekly")], Part::Reset),
        ),
        "budget" => both([json!(50.0), json!(60.0)], Nothing, Part::No),
        "budget_reset" => Row {
            // Leases keep their own: see `budget_leases.rs`.
            dynamic: None,
            put_back: Some(Current),
            ..cleared(
                Living,
                both([json!("daily"), json!("weekly")], Living, Part::Reset),
            )
        },
        // It applies to the role, not to its keys.
        "budget_alert_percent" => cleared(Nothing, both([json!(50), json!(60)], Nothing, Part::No)),
        "track_usage" => both([json!(true), json!(false)], Nothing, Part::No),
        "include_byok_in_limit" => of_limits([json!(true), json!(false)], Part::Byok),
        "workspace" => cleared(
            Next,
            both([json!("one"), json!("two")], Next, Part::Workspace),
        ),
        "workspace_id" => {
            let values = names.workspaces.clone().map(Value::from);
            cleared(Next, both(values, Next, Part::Workspace))
        }
        "guardrail" => Row {
            put_back: Some(Living),
            ..cleared(
                Next,
                both([json!("strict"), json!("other")], Living, Part::Guardrail),
            )
        },
        "creator_user_id" => {
            let values = names.members.clone().map(Value::from);
            cleared(Next, both(values, Next, Part::Creator))
        }
        "description" => both([json!("one"), json!("two")], Nothing, Part::No),
        "ttl" => both([json!(300), json!(200)], Nothing, Part::No),
        // The lifetime of the next key is then two of these, if nothing else is set.
        "rotation_period" => rotating([json!(7_200), json!(9_000)]),
        "rotation_schedule" => cleared(Nothing, rotating([json!("0 3 * * *"), json!("0 4 * * *")])),
        "rotation_window" => cleared(Nothing, rotating([json!(3_600), json!(7_200)])),
        "rotate_at" => cleared(Nothing, rotating([json!("03:00"), json!("04:00")])),
        "disable_automated_rotation" => rotating([json!(true), json!(false)]),
        "revocation_hold" => rotating([json!(3_600), json!(7_200)]),
        "rotation_grace_period" => rotating([json!(1_000), json!(2_000)]),
        "key_max_lifetime" => Row {
            rotating: Some(Next),
            part: Part::Lifetime,
            cleared: Some(Next),
            ..rotating([json!(400_000), json!(500_000)])
        },
        "max_ttl" => Row {
            rotating: None,
            ..both([json!(7_200), json!(9_000)], Next, Part::Lifetime)
        },
        "max_leases" => Row {
            rotating: None,
            ..cleared(Nothing, both([json!(10), json!(20)], Nothing, Part::No))
        },
        _ => {
            panic!("{field} is a field of roles and has no row here: what does a change of it do?")
        }
    }
}

/// The other fields that a field requires.
fn company(field: &str, kind: Kind) -> Value {
    match field {
        "budget_alert_percent" if kind == Kind::Dynamic => json!({"budget": 50, "limit": 5}),
        "budget_alert_percent" => json!({"budget": 50}),
        "limit_reset" => json!({"limit": 5}),
        "budget" => json!({"limit": 5}),
        "budget_reset" => json!({"budget": 50}),
        "rotation_window" => json!({"rotation_schedule": "0 3 * * *"}),
        "rotate_at" => json!({"rotation_period": "1d"}),
        _ => json!({}),
    }
}

/// The value of a field as a key shows it.
fn shown(part: Part, value: &Value, names: &Names, kind: Kind) -> Value {
    let one_of = |first: &str, choice: &[String; 2]| {
        json!(choice[usize::from(value.as_str() != Some(first))])
    };
    match (part, value) {
        (Part::Workspace, Value::String(text)) if text.len() < 10 => {
            one_of("one", &names.workspaces)
        }
        (Part::Guardrail, Value::String(_)) => one_of("strict", &names.guardrails),
        (Part::Account, _) => json!(value == "other"),
        // A lease's key outlives the lease by five minutes.
        (Part::Lifetime, Value::Number(seconds)) if kind == Kind::Dynamic => {
            json!(seconds.as_i64().unwrap() + 300)
        }
        _ => value.clone(),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rotating,
    Dynamic,
}

impl Kind {
    fn path(self) -> &'static str {
        match self {
            Self::Rotating => ROLE,
            Self::Dynamic => CI,
        }
    }
}

/// A world with everything that a role can refer to.
async fn world() -> (World, Names) {
    let world = World::connected().await;
    let account = world.openrouter.account();
    account.become_organization();
    let member = |name: &str| account.add_member(name, MemberRole::Member).unwrap();
    let other = world.other_account("other").await;
    let names = Names {
        workspaces: ["one", "two"].map(|slug| account.add_named_workspace(slug, slug).unwrap()),
        guardrails: ["strict", "other"]
            .map(|name| account.add_guardrail(NewGuardrail::named(name))),
        members: ["a@example.com", "b@example.com"].map(member),
        other,
    };
    (world, names)
}

/// A role of this kind with these fields, and two living keys: superseded and current, or under leases.
async fn with_role(world: &World, kind: Kind, fields: &Value) -> Result<(), String> {
    let mut body = json!({"rotation_period": 259_200, "rotation_grace_period": 600, "ttl": 300});
    if kind == Kind::Dynamic {
        body = json!({"credential_type": "dynamic", "ttl": 300});
    }
    let body = with(body, fields);
    let written = world.write(kind.path(), body).await;
    written.map_err(|reason| reason.to_string())?;
    next_key(world, kind).await;
    if kind == Kind::Dynamic {
        next_key(world, kind).await;
    }
    Ok(())
}

async fn next_key(world: &World, kind: Kind) {
    match kind {
        Kind::Rotating => drop(world.write(ROTATE, Value::Null).await.unwrap()),
        Kind::Dynamic => drop(world.lease().await.unwrap()),
    }
    world.quiet().await;
}

fn with(mut body: Value, fields: &Value) -> Value {
    let body_fields = body.as_object_mut().unwrap();
    let given = fields.as_object().unwrap();
    if given.contains_key("rotation_schedule") {
        body_fields.remove("rotation_period");
    }
    body_fields.extend(given.clone());
    body
}

type Shown = BTreeMap<Part, Value>;

/// The living keys of both accounts, oldest first.
fn living(world: &World, names: &Names) -> Vec<Shown> {
    let account = world.openrouter.account();
    let of = |account: &Account, is_other: bool| -> Vec<(Key, Shown)> {
        let keys = account.keys().into_iter();
        keys.map(|key| {
            let parts = parts(account, &key, is_other);
            (key, parts)
        })
        .collect()
    };
    let mut keys = of(account, false);
    keys.extend(of(&names.other, true));
    keys.into_iter().map(|(_, parts)| parts).collect()
}

fn parts(account: &Account, key: &Key, is_other: bool) -> Shown {
    let name = key.name.split(' ').next().unwrap_or_default();
    let lifetime = key
        .expires_at
        .map(|at| at.duration_since(key.created_at).as_secs());
    BTreeMap::from([
        (Part::Account, json!(is_other)),
        (Part::Name, json!(name)),
        (Part::Limit, json!(key.limit)),
        (Part::Reset, json!(key.limit_reset)),
        (Part::Byok, json!(key.include_byok_in_limit)),
        (Part::Workspace, json!(key.workspace_id)),
        (Part::Guardrail, json!(account.guardrail_of(&key.hash))),
        (Part::Creator, json!(key.creator_user_id)),
        (Part::Lifetime, json!(lifetime)),
    ])
}

/// The fields that only the creation of a role accepts, to adopt a key: see `adoption.rs`.
const OF_ADOPTION: [&str; 2] = ["api_key", "force"];

/// The fields of a role, according to the engine's own description.
async fn schema() -> Vec<String> {
    let world = World::empty().await;
    let help = world.node().call(Operation::Help, ROLE, Value::Null).await;
    let document = help.unwrap().unwrap().data["openapi"].clone();
    let schemas = &document["components"]["schemas"];
    let text = document.to_string();
    assert!(text.contains("rotation_grace_period"), "{text}");
    let body = &document["paths"];
    let body = body.as_object().unwrap().values().find_map(|path| {
        let body = &path["post"]["requestBody"]["content"]["application/json"]["schema"];
        let referred = body["$ref"].as_str().and_then(|at| at.rsplit('/').next());
        let schema = referred.map_or(body, |name| &schemas[name]);
        schema["properties"].as_object().cloned()
    });
    let properties: Map<String, Value> = body.expect("a role can be written");
    let names = properties.into_iter().map(|(name, _)| name);
    let names: Vec<String> = names.collect();
    let is_there = |name: &&str| names.iter().any(|there| there == name);
    assert!(OF_ADOPTION.iter().all(is_there), "{names:?}");
    let of_adoption = |name: &String| OF_ADOPTION.contains(&name.as_str());
    names
        .into_iter()
        .filter(|name| !of_adoption(name))
        .collect()
}

/// How a field is changed.
#[derive(Clone, Copy, Debug)]
enum Way {
    Update,
    Patch,
    Clear,
}

/// Changes the role, and checks the effect on its keys.
async fn check(field: &str, kind: Kind, way: Way) {
    let (world, names) = world().await;
    let row = row(field, &names);
    let Some(effect) = (match kind {
        Kind::Rotating => row.rotating,
        Kind::Dynamic => row.dynamic,
    }) else {
        let fields = with(company(field, kind), &json!({field: row.values[0]}));
        let refused = with_role(&world, kind, &fields).await;
        assert!(refused.is_err(), "{field} goes with a {kind:?} role");
        return;
    };
    let cell = format!("{field}, {kind:?}, {way:?}");
    let [first, second] = &row.values;
    let mut before = with(company(field, kind), &json!({field: first}));
    if effect == Refused {
        before = json!({});
    }
    with_role(&world, kind, &before).await.unwrap();
    let role = world
        .role(kind.path().rsplit('/').next().unwrap())
        .await
        .unwrap();
    assert!(role.contains_key(field), "{cell}: a read shows it");
    let old_keys = living(&world, &names);
    if row.part != Part::No {
        let expected = shown(row.part, first, &names, kind);
        let fits = |key: &Shown| key[&row.part] == expected;
        assert!(old_keys.iter().all(fits), "{cell}: created {old_keys:?}");
    }
    let (value, effect) = match way {
        Way::Update | Way::Patch => (second.clone(), effect),
        Way::Clear => (
            json!(null),
            match (row.cleared, effect) {
                (None, _) => Nothing,
                // For keys under leases, only the guardrail is changed.
                (Some(Current), Next) => Next,
                (Some(cleared), _) => cleared,
            },
        ),
    };
    let mut value = value;
    if effect == Refused && kind == Kind::Dynamic {
        value = json!("rotating");
    }
    let operation = match way {
        Way::Update => Operation::Update,
        Way::Patch | Way::Clear => Operation::Patch,
    };
    let node = world.node();
    let answer = node.call(operation, kind.path(), json!({field: value}));
    let answer = answer.await;
    world.quiet().await;
    if effect == Refused {
        answer.expect_err(&cell);
        assert_eq!(living(&world, &names), old_keys, "{cell}");
        return;
    }
    answer.unwrap_or_else(|reason| panic!("{cell}: {reason}"));
    let is_cleared = matches!(way, Way::Clear) && row.cleared.is_some();
    let new = match way {
        Way::Clear if !is_cleared => first.clone(),
        _ => value,
    };
    let expected = shown(row.part, &new, &names, kind);
    let now = living(&world, &names);
    assert_eq!(now.len(), old_keys.len(), "{cell}");
    for (number, (old, now)) in old_keys.iter().zip(&now).enumerate() {
        let is_current = number + 1 == old_keys.len();
        let changes = match effect {
            Living => true,
            Current => is_current,
            Nothing | Next | Refused => false,
        };
        let mut wanted = old.clone();
        if changes {
            wanted.insert(row.part, expected.clone());
        }
        assert_eq!(*now, wanted, "{cell}: the {number}. living key");
    }
    if row.part == Part::No {
        return;
    }
    next_key(&world, kind).await;
    let next = newest(&world, &names, &now);
    if is_cleared && matches!(row.part, Part::Workspace | Part::Lifetime) {
        assert_ne!(
            next[&row.part],
            shown(row.part, first, &names, kind),
            "{cell}: the next key"
        );
    } else {
        assert_eq!(next[&row.part], expected, "{cell}: the next key");
    }
}

/// The new key.
fn newest(world: &World, names: &Names, before: &[Shown]) -> Shown {
    let mut now = living(world, names);
    assert_eq!(now.len(), before.len() + 1);
    if let Some(other) = now
        .iter()
        .position(|key| key[&Part::Account] == json!(true))
    {
        return now.swap_remove(other);
    }
    now.pop().unwrap()
}

#[tokio::test]
async fn each_field_affects_living_keys_and_the_next_as_documented() {
    for field in schema().await {
        for kind in [Kind::Rotating, Kind::Dynamic] {
            // It is divided among the keys: see the next test.
            if field == "budget" && kind == Kind::Rotating {
                continue;
            }
            for way in [Way::Update, Way::Patch, Way::Clear] {
                check(&field, kind, way).await;
            }
        }
    }
}

/// A budget is divided among the keys: together they have all of it.
#[tokio::test]
async fn a_budget_affects_living_keys_and_the_next_as_documented() {
    let limits = |keys: &[Shown]| -> Vec<Value> {
        let of_each = keys.iter().map(|key| key[&Part::Limit].clone());
        of_each.collect()
    };
    let sum = |keys: &[Shown]| -> f64 {
        let limits = limits(keys).into_iter();
        limits.filter_map(|limit| limit.as_f64()).sum()
    };
    for way in [Way::Update, Way::Patch, Way::Clear] {
        let (world, names) = world().await;
        let budget = json!({"budget": 50.0});
        with_role(&world, Kind::Rotating, &budget).await.unwrap();
        let old_keys = living(&world, &names);
        assert_eq!((old_keys.len(), sum(&old_keys)), (2, 50.0), "{old_keys:?}");
        let (operation, value) = match way {
            Way::Update => (Operation::Update, json!(60.0)),
            Way::Patch => (Operation::Patch, json!(60.0)),
            Way::Clear => (Operation::Patch, json!(null)),
        };
        let node = world.node();
        let changed = node.call(operation, ROLE, json!({"budget": value}));
        changed.await.unwrap();
        world.quiet().await;
        let now = living(&world, &names);
        next_key(&world, Kind::Rotating).await;
        let later = living(&world, &names);
        if matches!(way, Way::Clear) {
            // Only a key that is no longer handed out keeps its share.
            let [superseded, _] = &limits(&old_keys)[..] else {
                panic!("{old_keys:?}")
            };
            assert_eq!(limits(&now), [superseded.clone(), json!(null)]);
            assert_eq!(limits(&later)[1..], [json!(null), json!(null)]);
        } else {
            assert_eq!((now.len(), sum(&now)), (2, 60.0), "{way:?}: {now:?}");
            assert_eq!((later.len(), sum(&later)), (3, 60.0), "{way:?}: {later:?}");
        }
    }
}

#[tokio::test]
async fn a_share_that_somebody_changes_is_restored() {
    let (world, names) = world().await;
    let budget = json!({"budget": 50.0});
    with_role(&world, Kind::Rotating, &budget).await.unwrap();
    let granted = living(&world, &names).pop().unwrap();
    let account = world.openrouter.account();
    let raised = KeyChanges {
        limit: Some(Some(99.0)),
        ..KeyChanges::default()
    };
    let current = account.keys().pop().unwrap();
    account.change_key(&current.hash, &raised).unwrap();
    world.restart().await;
    world.quiet().await;
    assert_eq!(living(&world, &names).pop(), Some(granted));
}

#[tokio::test]
async fn changes_at_openrouter_are_undone_where_documented() {
    for field in schema().await {
        for kind in [Kind::Rotating, Kind::Dynamic] {
            outside(&field, kind).await;
        }
    }
}

/// Changes the part of a key at OpenRouter that corresponds to a field, if that is possible, and begins the
/// work again.
async fn outside(field: &str, kind: Kind) {
    let (world, names) = world().await;
    let row = row(field, &names);
    let has_field = match kind {
        Kind::Rotating => row.rotating,
        Kind::Dynamic => row.dynamic,
    };
    if has_field.is_none() {
        return;
    }
    let account = world.openrouter.account();
    let mut changes = KeyChanges::default();
    match row.part {
        Part::Name => changes.name = Some("somebody's".to_owned()),
        Part::Limit => changes.limit = Some(Some(99.0)),
        Part::Reset => changes.limit_reset = Some(None),
        Part::Byok => changes.include_byok_in_limit = Some(false),
        Part::Workspace => changes.workspace_id = Some(names.workspaces[1].clone()),
        Part::Guardrail => {}
        // OpenRouter does not allow changes of these.
        Part::No | Part::Account | Part::Creator | Part::Lifetime => return,
    }
    let fields = with(company(field, kind), &json!({field: row.values[0]}));
    with_role(&world, kind, &fields).await.unwrap();
    let before = living(&world, &names);
    for key in account.keys() {
        account.change_key(&key.hash, &changes).unwrap();
        if row.part == Part::Guardrail {
            account.unassign_guardrail(&key.hash);
        }
    }
    let changed = living(&world, &names);
    assert_ne!(before, changed, "{field}");
    world.restart().await;
    world.quiet().await;
    let last = before.len() - 1;
    let keys = before.into_iter().zip(changed).enumerate();
    let expected = keys.map(|(number, (before, changed))| {
        let is_put_back = match row.put_back {
            Some(Current) => kind == Kind::Dynamic || number == last,
            put_back => put_back == Some(Living),
        };
        if is_put_back { before } else { changed }
    });
    let expected: Vec<Shown> = expected.collect();
    assert_eq!(living(&world, &names), expected, "{field}, {kind:?}");
}
