//! The sample requests of `docs/reference.md`, sent to a real server, and whether it still answers as is
//! shown there. `scripts/reference` records the answers.

use std::fs;
use std::path::{Path, PathBuf};

use openrouter_simulator::{NewGuardrail, NewKey};
use serde_json::{Map, Value, json};

use crate::harness::{Mount, Reply};

#[tokio::test]
async fn each_sample_request_of_the_reference_is_answered_as_it_shows() {
    let mount = Mount::unconfigured().await;
    let shown = examples();
    assert!(shown.len() > 20, "{} examples", shown.len());
    let by_hand = prepare(&mount);
    let mut recorded = shown.clone();
    for example in &mut recorded {
        let reply = send(&mount, example, &by_hand).await.ok();
        let answer = answer(&mount, &reply);
        let example = example.as_object_mut().expect("an example");
        match answer {
            Some(answer) => example.insert("response".to_owned(), answer),
            None => example.remove("response"),
        };
    }
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        let text = format!("{:#}\n", Value::from(recorded));
        fs::write(file(), text).expect("the examples can be written");
        return;
    }
    for (shown, recorded) in shown.iter().zip(&recorded) {
        assert_eq!(
            shape(shown),
            shape(recorded),
            "{} of {} is answered otherwise: {recorded:#}\nRun scripts/reference.",
            shown["operation"],
            shown["at"],
        );
    }
}

/// The sample requests, each with its recorded answer, in the order in which they are sent.
pub(crate) fn examples() -> Vec<Value> {
    let examples = fs::read_to_string(file()).expect("the examples");
    serde_json::from_str(&examples).expect("a list of examples")
}

/// What the examples need at OpenRouter: a guardrail, and a key that somebody has made by hand. Returns the
/// key's hash.
pub(crate) fn prepare(mount: &Mount) -> String {
    let account = mount.openrouter.account();
    account.add_guardrail(NewGuardrail::named("No training"));
    account
        .create_key(NewKey::named("Made in the dashboard"))
        .hash
}

/// Sends an example to this mount, with the connection leading to its own OpenRouter. `$KEY_HASH` in it is
/// the key that somebody has made by hand.
pub(crate) async fn send(mount: &Mount, example: &Value, by_hand: &str) -> Reply {
    let at = example["at"].as_str().expect("where it goes");
    let at = &at.replace("$KEY_HASH", by_hand);
    let mut fields = example["fields"].as_object().cloned().unwrap_or_default();
    if fields.get("key_hash") == Some(&json!("$KEY_HASH")) {
        fields.insert("key_hash".to_owned(), by_hand.into());
    }
    if fields.contains_key("management_key") {
        assert_eq!(fields["management_key"], "$OPENROUTER_MANAGEMENT_KEY");
        fields.extend(mount.connection().as_object().cloned().unwrap_or_default());
    }
    let body = Value::Object(fields);
    match example["operation"].as_str() {
        Some("read") => mount.read(at).await,
        Some("list") => mount.list(at).await,
        Some("write") => mount.write(at, body).await,
        Some("patch") => mount.patch(at, body).await,
        Some("delete") => mount.delete(at).await,
        other => panic!("an example of {other:?}"),
    }
}

/// What a reader needs of an answer, as a mount at `openrouter` that reaches the real OpenRouter gives it.
fn answer(mount: &Mount, reply: &Reply) -> Option<Value> {
    if reply.status() == 204 {
        return None;
    }
    if reply.json().is_null() {
        return Some(reply.body().into());
    }
    let leased = reply.json()["lease_id"] != "";
    let names: &[&str] = match leased {
        true => &[
            "lease_id",
            "lease_duration",
            "renewable",
            "data",
            "warnings",
        ],
        false => &["data", "warnings"],
    };
    let known = names
        .iter()
        .map(|name| ((*name).to_owned(), reply.json()[*name].clone()))
        .filter(|(_, value)| !value.is_null());
    let text = Value::Object(known.collect::<Map<_, _>>()).to_string();
    let text = text
        .replace(&mount.openrouter.base_url(), "https://openrouter.ai/api/v1")
        .replace(&mount.at(""), "openrouter/");
    let mut answer: Value = serde_json::from_str(&text).expect("JSON");
    // Whole ones are what scanners for leaked keys look for.
    if let Some(Value::String(key)) = answer.pointer_mut("/data/api_key") {
        key.replace_range(24.., "…");
    }
    Some(answer)
}

/// What stays the same from one run to the next: the names and kinds of all values, and the texts that a
/// person wrote.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("boolean"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("string"),
        Value::Array(items) => items.iter().map(shape).collect(),
        // By hash, so in another order each time.
        Value::Object(fields) if fields.keys().all(|name| is_hash(name)) => {
            let mut shapes: Vec<_> = fields.values().map(shape).collect();
            shapes.sort_by_key(Value::to_string);
            shapes.into()
        }
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), shape(value)))
            .collect::<Map<_, _>>()
            .into(),
    }
}

fn is_hash(name: &str) -> bool {
    name.len() == 64 && name.chars().all(|digit| digit.is_ascii_hexdigit())
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/reference/examples.json")
}
