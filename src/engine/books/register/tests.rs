//! What is known of roles, and what is unknown.

use serde_json::json;

use super::*;
use crate::engine::names::Life;
use crate::engine::role::budget::{Amount, Budget};
use crate::engine::role::rotating::{Grace, sample};
use sample::{at, daily};

const TEAM: &str = "0f8fad5b-d9cb-469f-a165-708677289509";

fn name(name: &str) -> RoleName {
    RoleName::new(name).unwrap()
}

fn origin(role: &str) -> Origin {
    Origin::new("mount", &name(role), &Life::default())
}

fn rotating() -> RotatingRole {
    let role = sample::role(daily(), at(0));
    role.switched_to(sample::key(2, &daily(), at(10)), Grace::Seconds(600))
}

/// A dynamic role in this workspace.
fn dynamic(workspace: Option<&str>) -> Role {
    let mut role = json!({"ttl": 60, "max_ttl": 60, "max_leases": null});
    role["terms"] = serde_json::to_value(rotating().definition.terms).unwrap();
    role["terms"]["workspace_id"] = json!(workspace);
    Role::Dynamic(serde_json::from_value(role).unwrap())
}

fn enter(register: &Register, role: &str, content: &Role) {
    register.enter(&name(role), origin(role), content);
}

fn with_budget(mut role: Role) -> Role {
    let terms = match &mut role {
        Role::Rotating(role) => &mut role.definition.terms,
        Role::Dynamic(role) => &mut role.terms,
    };
    terms.budget = Some(Budget {
        amount: Amount::granted(10.0),
        reset: None,
    });
    role
}

fn unreachable() -> Error {
    StorageError::Failed("timeout".to_owned()).into()
}

fn malformed() -> Error {
    let reason = StorageError::Malformed {
        key: "roles/app".to_owned(),
        reason: "Eof".to_owned(),
    };
    reason.into()
}

#[test]
fn a_role_is_to_be_read_again_after_a_failed_read_or_a_write_of_unknown_outcome() {
    let register = Register::default();
    register.require_all_read().unwrap();
    register.doubt(&name("app"));
    assert_eq!(register.unread(), [name("app")].into());
    register.require_all_read().unwrap();
    register.could_not_read(&name("ci"), &unreachable());
    assert_eq!(register.unread(), [name("app"), name("ci")].into());
    let refusal = register.require_all_read().unwrap_err().to_string();
    assert!(
        refusal.contains("1 roles cannot be read, for example ci"),
        "{refusal}"
    );
    enter(&register, "app", &dynamic(None));
    enter(&register, "ci", &dynamic(None));
    assert!(register.unread().is_empty());
    register.require_all_read().unwrap();
}

#[test]
fn a_key_is_nobodys_only_if_every_role_is_known() {
    let owner = |register: &Register| register.owner(&origin("gone"));
    let register = Register::default();
    enter(&register, "app", &dynamic(None));
    assert!(matches!(owner(&register), Owner::Nobody));
    for reason in [unreachable(), malformed()] {
        let register = Register::default();
        register.could_not_read(&name("app"), &reason);
        assert!(matches!(owner(&register), Owner::Unknown), "{reason}");
    }
}

#[test]
fn the_owner_of_a_key_is_a_role_of_its_kind() {
    let register = Register::default();
    enter(&register, "app", &Role::Rotating(Box::new(rotating())));
    enter(&register, "ci", &dynamic(None));
    let owner = register.owner(&origin("app"));
    assert!(matches!(owner, Owner::Rotating(role) if role == name("app")));
    let owner = register.owner(&origin("ci"));
    assert!(matches!(owner, Owner::Dynamic(role) if role == name("ci")));
    assert!(register.is_dynamic(&name("ci")));
    assert!(!register.is_dynamic(&name("app")) && !register.is_dynamic(&name("gone")));
}

#[test]
fn only_a_dynamic_role_without_a_workspace_makes_leased_keys_in_the_default_one() {
    let register = Register::default();
    enter(&register, "app", &Role::Rotating(Box::new(rotating())));
    enter(&register, "ci", &dynamic(None));
    enter(&register, "team", &dynamic(Some(TEAM)));
    let are_of_default =
        ["app", "ci", "team", "gone"].map(|role| register.is_of_default(&name(role)));
    assert_eq!(are_of_default, [false, true, false, false]);
}

#[test]
fn the_roles_with_a_budget_are_watched() {
    let register = Register::default();
    let role = rotating();
    enter(&register, "app", &Role::Rotating(Box::new(role.clone())));
    enter(&register, "ci", &dynamic(None));
    assert!(register.watched().is_empty());
    let role = Role::Rotating(Box::new(role));
    enter(&register, "app", &with_budget(role));
    enter(&register, "ci", &with_budget(dynamic(None)));
    let watched = register.watched().into_iter();
    // The keys of a dynamic role are its leases.
    let watched: Vec<_> = watched
        .map(|(name, watched)| (name, watched.keys.is_some()))
        .collect();
    assert_eq!(watched, [(name("app"), true), (name("ci"), false)]);
}

#[test]
fn a_role_with_a_key_that_a_comparison_found_is_listed() {
    let register = Register::default();
    let mut role = rotating();
    enter(&register, "app", &Role::Rotating(Box::new(role.clone())));
    assert_eq!(register.with_found(), []);
    role.superseded[0].found = true;
    enter(&register, "app", &Role::Rotating(Box::new(role)));
    enter(&register, "ci", &dynamic(None));
    assert_eq!(register.with_found(), [name("app")]);
}
