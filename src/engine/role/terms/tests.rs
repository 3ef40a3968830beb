//! The effect of a write on the terms of a role's keys.

use serde_json::{Value, json};

use super::*;

fn write(before: Option<&Terms>, body: Value) -> Result<Terms, String> {
    let Value::Object(body) = body else {
        panic!("not an object")
    };
    let fields = Fields::parse(FIELDS, &[], &body, true).map_err(|e| e.to_string())?;
    let name = RoleName::new("app").unwrap();
    let terms = Terms::apply(&name, before, &fields).map_err(|e| e.to_string())?;
    terms.check().map_err(|e| e.to_string())?;
    Ok(terms)
}

#[test]
fn nothing_given_means_the_documented_defaults() {
    let terms = write(None, json!({})).unwrap();
    assert_eq!(terms.connection, ConnectionName::default());
    assert_eq!(terms.key_name, "app");
    assert_eq!(terms.limits, Limits::default());
    assert_eq!(terms.workspace_id, None);
}

#[test]
fn what_an_update_does_not_name_stays() {
    let before = write(None, json!({"limit": 5, "limit_reset": "daily"})).unwrap();
    let after = write(Some(&before), json!({"description": "new"})).unwrap();
    let expected = Terms {
        description: "new".to_owned(),
        ..before
    };
    assert_eq!(after, expected);
}

#[test]
fn a_limit_that_is_taken_away_takes_its_reset_with_it() {
    let before = write(None, json!({"limit": 5, "limit_reset": "daily"})).unwrap();
    let after = write(Some(&before), json!({"limit": null})).unwrap();
    assert_eq!(after.limits, Limits::default());
    let by_hand = write(Some(&before), json!({"limit": ""})).unwrap();
    assert_eq!(by_hand, after);
}

#[test]
fn contradictions_are_refused_with_the_field_that_is_wrong() {
    let table = [
        (json!({"limit": 0}), "limit must be"),
        (json!({"limit_reset": "daily"}), "limit_reset needs a limit"),
        (
            json!({"limit_reset": "hourly", "limit": 1}),
            "limit_reset must be one of",
        ),
        (json!({"key_name": " "}), "key_name must have"),
        (json!({"key_name": "x".repeat(101)}), "key_name must have"),
        (json!({"workspace_id": "main"}), "workspace_id: "),
        (json!({"workspace": "Main Team"}), "workspace: "),
        (
            json!({"workspace": UUID, "workspace_id": UUID.replace('0', "1")}),
            "only one of workspace",
        ),
        (json!({"connection": "a/b"}), "connection must be"),
    ];
    for (body, reason) in table {
        let refusal = write(None, body.clone()).unwrap_err();
        assert!(refusal.contains(reason), "{body}: {refusal}");
    }
}

const UUID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

#[test]
fn a_workspace_is_one_whether_it_is_called_by_slug_or_uuid() {
    let id = WorkspaceId::parse(UUID).unwrap();
    let by_id = write(None, json!({"workspace_id": UUID})).unwrap();
    assert_eq!(
        (by_id.workspace.as_deref(), &by_id.workspace_id),
        (None, &Some(id.clone()))
    );
    let by_slug = write(Some(&by_id), json!({"workspace": "team"})).unwrap();
    assert_eq!(by_slug.workspace.as_deref(), Some("team"));
    assert_eq!(by_slug.workspace_id, None, "it is still to be looked up");
    let both = json!({"workspace": "team", "workspace_id": UUID});
    assert_eq!(write(None, both).unwrap().workspace_id, Some(id));
    for clear in [json!({"workspace": null}), json!({"workspace_id": ""})] {
        let cleared = write(Some(&by_slug), clear).unwrap();
        assert_eq!((cleared.workspace, cleared.workspace_id), (None, None));
    }
}

#[test]
fn a_guardrail_that_is_written_is_still_to_be_looked_up() {
    let mut before = write(None, json!({"guardrail": "strict"})).unwrap();
    assert_eq!(before.guardrail_id, None);
    before.guardrail_id = GuardrailId::parse(UUID).ok();
    let same = write(Some(&before), json!({"limit": 1})).unwrap();
    assert_eq!(same.guardrail_id, before.guardrail_id);
    let again = write(Some(&before), json!({"guardrail": "strict"})).unwrap();
    assert_eq!(
        (again.guardrail.as_deref(), again.guardrail_id),
        (Some("strict"), None)
    );
    let cleared = write(Some(&before), json!({"guardrail": ""})).unwrap();
    assert_eq!((cleared.guardrail, cleared.guardrail_id), (None, None));
}
