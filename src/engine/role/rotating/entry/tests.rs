//! The effect of a switch on a role's keys, and reading a stored role back.

use secrecy::SecretString;
use serde_json::json;

use super::super::Grace;
use super::*;
use crate::engine::clock::after;
use crate::engine::names::AddressId;
use crate::engine::role::rotating::sample::EMERGENCY;
use crate::openrouter::{Limits, WorkspaceId};

const NOON: &str = "2026-11-20T12:00:00Z";

fn at(seconds: u64) -> Timestamp {
    after(NOON.parse().unwrap(), seconds)
}

fn key(version: u64, since: Timestamp) -> CurrentKey {
    let secret = SecretString::from(format!("sk-or-v1-{version}"));
    CurrentKey {
        hash: KeyHash::of(&secret),
        secret,
        label: format!("sk-or-v1-{version}..."),
        name: format!("app 2026-11-20 vault-{version:032x}"),
        version,
        connection: ConnectionName::default(),
        workspace_id: None,
        address: AddressId::default(),
        since,
        ordered: None,
        anchor: since,
        manual: false,
        expires_at: None,
        limits: Limits::default(),
        limits_unproved: false,
        guardrail_id: None,
        guardrail_unproved: false,
        promised_until: None,
        counted: false,
    }
}

/// A role in version 1 of the format.
fn role() -> RotatingRole {
    let stored = json!({
        "definition": {
            "terms": {
                "connection": "default",
                "key_name": "app",
                "limits": {"limit": 5, "limit_reset": "daily", "include_byok_in_limit": false},
                "workspace_id": null,
                "description": "",
            },
            "rotation": {
                "schedule": {"rotation_period": 3600},
                "automated": true,
                "grace": 600,
                "ttl": 300,
                "key_lifetime": "default",
            },
        },
        "current": {
            "secret": "sk-or-v1-1",
            "hash": KeyHash::of(&SecretString::from("sk-or-v1-1")),
            "label": "sk-or-v1-1...",
            "name": format!("app 2026-11-20 vault-{:032x}", 1),
            "version": 1,
            "connection": "default",
            "since": NOON,
            "anchor": NOON,
            "manual": true,
            "expires_at": "2026-11-20T14:10:00Z",
            "limits": {"limit": 5, "limit_reset": "daily", "include_byok_in_limit": false},
            "promised_until": null,
        },
        "superseded": [],
        "last_attempt": NOON,
        "rotation_failure": null,
        "limits_failure": null,
        "deletion": null,
    });
    serde_json::from_value(stored).unwrap()
}

#[test]
fn what_is_stored_is_read_back_as_it_was() {
    let role = role()
        .switched_to(key(2, at(60)), Grace::Seconds(600))
        .switched_to(key(3, at(120)), EMERGENCY);
    let stored = serde_json::to_value(&role).unwrap();
    assert_eq!(
        serde_json::from_value::<RotatingRole>(stored).unwrap(),
        role
    );
}

/// Earlier builds of this format named the doubt differently.
#[test]
fn a_doubt_that_an_earlier_build_stored_is_read() {
    let mut stored = serde_json::to_value(role()).unwrap();
    stored["current"]["unguarded"] = json!(true);
    let role: RotatingRole = serde_json::from_value(stored).unwrap();
    assert!(role.current.guardrail_unproved);
}

#[test]
fn a_superseded_key_dies_at_the_end_of_its_grace_period() {
    let role = role().switched_to(key(2, at(60)), Grace::Seconds(600));
    assert_eq!(role.current.version, 2);
    assert_eq!(role.superseded.len(), 1);
    assert_eq!(role.superseded[0].version, 1);
    assert_eq!(role.superseded[0].revoke_at, at(660));
    assert_eq!(role.superseded[0].since, at(0));
}

#[test]
fn a_promise_that_outlasts_the_grace_period_is_kept() {
    let mut role = role();
    role.current.promised_until = Some(at(5_000));
    let switched = role
        .clone()
        .switched_to(key(2, at(60)), Grace::Seconds(600));
    assert_eq!(switched.superseded[0].revoke_at, at(5_000));
    assert_eq!(switched.current.promised_until, None);
    let broken = role.switched_to(key(2, at(60)), EMERGENCY);
    assert_eq!(broken.superseded[0].revoke_at, at(60));
}

#[test]
fn an_emergency_ends_every_grace_period_and_every_wait_for_another_try() {
    let mut role = role().switched_to(key(2, at(60)), Grace::Seconds(600));
    role.superseded[0].failure = Some(Failure {
        attempts: 9,
        at: at(60),
        message: "503".to_owned(),
        retry_at: at(4_000),
    });
    let role = role.switched_to(key(3, at(120)), EMERGENCY);
    for key in &role.superseded {
        assert_eq!((key.revoke_at, &key.failure), (at(120), &None));
    }
    let versions: Vec<_> = role.superseded.iter().map(|key| key.version).collect();
    assert_eq!(versions, [1, 2]);
}

#[test]
fn a_new_key_clears_the_failures_of_the_one_before() {
    let mut role = role();
    let failure = Failure {
        attempts: 1,
        at: at(0),
        message: String::new(),
        retry_at: at(1),
    };
    role.rotation_failure = Some(failure.clone());
    role.limits_failure = Some(failure);
    let role = role.switched_to(key(2, at(60)), Grace::Seconds(600));
    assert_eq!((role.rotation_failure, role.limits_failure), (None, None));
    assert_eq!(role.last_attempt, at(60));
}

#[test]
fn a_role_knows_the_nonces_of_all_its_keys_and_of_no_others() {
    let role = role().switched_to(key(2, at(60)), Grace::Seconds(600));
    let nonce =
        |number: u64| -> Nonce { serde_json::from_value(json!(format!("{number:032x}"))).unwrap() };
    assert!(role.has_key_of(&nonce(1)) && role.has_key_of(&nonce(2)));
    assert!(!role.has_key_of(&nonce(3)));
}

fn place(connection: &str, workspace_id: Option<&str>) -> Place {
    Place {
        connection: ConnectionName::parse(connection).unwrap(),
        workspace_id: workspace_id.map(|id| WorkspaceId::parse(id).unwrap()),
    }
}

const WORKSPACE: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

#[test]
fn a_roles_keys_are_where_they_were_made_whatever_its_definition_says_now() {
    let mut role = role();
    role.current.workspace_id = Some(WorkspaceId::parse(WORKSPACE).unwrap());
    let mut role = role.switched_to(key(2, at(60)), Grace::Seconds(600));
    role.definition.terms.connection = ConnectionName::parse("next").unwrap();
    let expected = [
        place("default", None),
        place("default", Some(WORKSPACE)),
        place("next", None),
    ];
    assert_eq!(role.places(), expected.into());
    assert_eq!(role.place_of_current(), place("default", None));
}

#[test]
fn a_key_of_the_first_format_is_where_the_definition_says() {
    let mut role = role().switched_to(key(2, at(60)), Grace::Seconds(600));
    role.definition.terms.workspace_id = Some(WorkspaceId::parse(WORKSPACE).unwrap());
    role.place_keys_by_definition();
    assert_eq!(role.places(), [place("default", Some(WORKSPACE))].into());
}

#[test]
fn debug_shows_no_secret() {
    assert!(!format!("{:?}", role()).contains("sk-or-v1-1\""));
}

#[test]
fn a_role_shows_no_key_by_debug() {
    let role = RotatingRole {
        current: key(7, at(0)),
        ..role()
    };
    let shown = format!("{role:?}");
    assert!(
        shown.contains("sk-or-v1-7..."),
        "the label is shown: {shown}"
    );
    assert!(
        !shown.replace("sk-or-v1-7...", "").contains("sk-or-v1-7"),
        "{shown}"
    );
}
