//! Sends the sample requests of `docs/reference.md` to a real server, and checks that it still gives the
//! recorded answers. `scripts/reference` records the answers. The commands of the page are run as well.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use openrouter_simulator::{NewGuardrail, NewKey};
use serde_json::{Map, Value, json};
use vault_plugin_secrets_openrouter::framework::reference::{Example, PAYLOAD};

use crate::harness::{Directory, Mount, Reply, output_in, runs, skipped};

#[tokio::test]
async fn each_sample_request_of_the_reference_is_answered_as_it_shows() {
    let mount = Mount::unconfigured().await;
    let shown = examples();
    assert!(shown.len() > 20, "{} examples", shown.len());
    let by_hand = prepare(&mount);
    let mut recorded = shown.clone();
    for example in &mut recorded {
        let reply = send(&mount, example, &by_hand).await.ok();
        let answer = answer(&mount, reply.body());
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

#[tokio::test]
async fn each_sample_command_of_the_reference_runs() {
    for program in ["bash", "curl", "jq"] {
        if !runs(program) {
            skipped(&format!(
                "the commands of docs/reference.md: there is no {program}"
            ));
            return;
        }
    }
    for form in [Form::Cli, Form::Curl] {
        let mount = Mount::unconfigured().await;
        let by_hand = prepare(&mount);
        let directory = Directory::without_plugin();
        let key = format!("{}\n", mount.openrouter.management_key());
        fs::write(directory.path("management-key.txt"), key).expect("a file can be written");
        let script = script(form, &mount, &by_hand);
        let output = output_in(
            &directory,
            Path::new("bash"),
            &["-c", &script],
            mount.client(),
        )
        .await;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success(), "{form:?}: {said}");
        let mut compared = 0;
        for (place, example) in examples().iter().enumerate() {
            // `vault` prints the other answers in another form.
            if form == Form::Cli && (example["operation"] != "read" || is_text(example)) {
                continue;
            }
            let answered = fs::read_to_string(directory.path(&format!("answer-{place}")));
            let answered = answer(&mount, &answered.expect("an answer"));
            assert_eq!(
                example.get("response").map(shape),
                answered.as_ref().map(shape),
                "{form:?}: {} of {} is answered otherwise: {answered:#?}",
                example["operation"],
                example["at"],
            );
            compared += 1;
        }
        assert!(compared > 10, "{form:?}: {compared} answers");
    }
}

/// One of the two forms in which the page shows a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Cli,
    Curl,
}

/// The commands of all examples, in the order in which they were recorded. Each writes its answer to a file.
fn script(form: Form, mount: &Mount, by_hand: &str) -> String {
    let page = root().join("docs/reference.md");
    let page = fs::read_to_string(page).expect("the reference");
    let api_url = mount.openrouter.base_url();
    let mut script = format!("{PRELUDE}KEY_HASH={by_hand}\n");
    for (place, example) in examples().into_iter().enumerate() {
        let is_text = is_text(&example);
        let example: Example = serde_json::from_value(example).expect("an example");
        let command = |mount: &str| match form {
            Form::Cli => example.cli(mount),
            Form::Curl => Some(example.curl(mount)),
        };
        let (Some(shown), Some(command)) = (command("openrouter"), command(mount.path())) else {
            assert!(
                is_text,
                "{} of {} is not shown",
                example.operation, example.at
            );
            continue;
        };
        assert!(
            page.contains(&format!("\n$ {shown}\n")),
            "not in the page: {shown}"
        );
        // Sent to this mount's OpenRouter.
        let command = match form {
            Form::Cli => command.replace(
                "management_key=-",
                &format!("api_url={api_url} management_key=-"),
            ),
            Form::Curl => command.replace(
                "--rawfile management_key",
                &format!("--arg api_url {api_url} --rawfile management_key"),
            ),
        };
        if let Some(payload) = example.payload() {
            assert!(
                page.contains(&format!("\n{payload:#}\n")),
                "not in the page: {payload:#}"
            );
            let _ = writeln!(script, "cat >{PAYLOAD} <<'JSON'\n{payload}\nJSON");
        }
        let _ = writeln!(
            script,
            "doing='{} of {}'\n{{ {command}\n}} >answer-{place}\nrm -f {PAYLOAD}",
            example.operation, example.at
        );
    }
    script
}

/// Whether the answer is not JSON.
fn is_text(example: &Value) -> bool {
    example["response"].is_string()
}

/// The frame of the commands: the shell exits with the first failing command, and reports which one it was.
const PRELUDE: &str = r#"
set -euo pipefail
export VAULT_FORMAT=json
doing=
trap 'status=$?; [ $status = 0 ] || echo "the command failed: $doing" >&2' EXIT
# Fails if the server refuses the request.
curl() { command curl --silent --show-error --fail-with-body "$@"; }
"#;

/// The sample requests, each with its recorded answer, in the order in which they are sent.
pub(crate) fn examples() -> Vec<Value> {
    let examples = fs::read_to_string(file()).expect("the examples");
    serde_json::from_str(&examples).expect("a list of examples")
}

/// The objects at OpenRouter that the examples need: a guardrail, and a key made by hand. Returns the key's
/// hash.
pub(crate) fn prepare(mount: &Mount) -> String {
    let account = mount.openrouter.account();
    account.add_guardrail(NewGuardrail::named("No training"));
    account
        .create_key(NewKey::named("Made in the dashboard"))
        .hash
}

/// Sends an example to this mount, with the connection to its own OpenRouter. `$KEY_HASH` in it is the key
/// made by hand.
pub(crate) async fn send(mount: &Mount, example: &Value, by_hand: &str) -> Reply {
    let at = example["at"].as_str().expect("where it goes");
    let at = &at.replace("$KEY_HASH", by_hand);
    let mut fields = example["fields"].as_object().cloned().unwrap_or_default();
    if fields.get("key_hash") == Some(&json!("$KEY_HASH")) {
        fields.insert("key_hash".to_owned(), by_hand.into());
    }
    if fields.contains_key("management_key") {
        assert_eq!(fields["management_key"], "<management-key.txt");
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

/// The part of an answer that a reader needs, as a mount at `openrouter` with the real OpenRouter would give
/// it. `None` for a 204, which has no body.
fn answer(mount: &Mount, body: &str) -> Option<Value> {
    if body.is_empty() {
        return None;
    }
    let Ok(json) = serde_json::from_str::<Value>(body) else {
        return Some(body.into());
    };
    let leased = json["lease_id"] != "";
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
        .map(|name| ((*name).to_owned(), json[*name].clone()))
        .filter(|(_, value)| !value.is_null());
    let text = Value::Object(known.collect::<Map<_, _>>()).to_string();
    let text = text
        .replace(&mount.openrouter.base_url(), "https://openrouter.ai/api/v1")
        .replace(&mount.at(""), "openrouter/");
    let mut answer: Value = serde_json::from_str(&text).expect("JSON");
    // Scanners for leaked keys search for whole keys.
    if let Some(Value::String(key)) = answer.pointer_mut("/data/api_key") {
        key.replace_range(24.., "…");
    }
    Some(answer)
}

/// What is the same in every run: the names and types of all values.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("boolean"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("string"),
        Value::Array(items) => items.iter().map(shape).collect(),
        // By hash, so in a different order each time.
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
    root().join("tests/data/reference/examples.json")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
