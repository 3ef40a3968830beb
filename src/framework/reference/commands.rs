//! An example as commands: with the server's command line, and with curl. The page shows these commands, and
//! a test runs them on a real server.

use serde_json::{Map, Value};

use super::{Example, Method};

/// The file from which the commands of an example take the fields of a request.
pub const PAYLOAD: &str = "payload.json";

impl Example {
    /// The example with `vault`; `None` if the answer is not JSON, which `vault` cannot show. A field with
    /// the value `<FILE` is read from that file, and one with the value `$NAME` from that shell variable.
    #[must_use]
    pub fn cli(&self, mount: &str) -> Option<String> {
        if self.response.as_ref().is_some_and(Value::is_string) {
            return None;
        }
        let at = format!("{mount}/{}", self.at);
        let mut command = match (self.operation.as_str(), self.fields.is_empty()) {
            ("write", true) => format!("vault write -force {at}"),
            (operation, _) => format!("vault {operation} {at}"),
        };
        let mut standard_input = String::new();
        for (name, value) in &self.fields {
            let value = match Source::of(value) {
                Source::File(file) => {
                    standard_input = format!(" < {file}");
                    "-".to_owned()
                }
                Source::Variable(variable) => format!("\"{variable}\""),
                Source::Here => argument(value),
            };
            command = format!("{command}{CONTINUED}{name}={value}");
        }
        Some(command + &standard_input)
    }

    /// The example with curl. It reads the fields that the page shows from [`PAYLOAD`].
    #[must_use]
    pub fn curl(&self, mount: &str) -> String {
        let method = Method::named(&self.operation);
        let mut command = self
            .body()
            .map_or_else(String::new, |jq| format!("{jq} |\n  "));
        command.push_str("curl --header \"X-Vault-Token: $VAULT_TOKEN\"");
        if let Some(method) = method.filter(|method| *method != Method::Read) {
            command = format!("{command}{CONTINUED}--request {}", method.http());
        }
        if method == Some(Method::Patch) {
            let header = "--header \"Content-Type: application/merge-patch+json\"";
            command = format!("{command}{CONTINUED}{header}");
        }
        if !self.fields.is_empty() {
            let data = if self.body().is_some() { "-" } else { PAYLOAD };
            command = format!("{command}{CONTINUED}--data @{data}");
        }
        format!("{command}{CONTINUED}$VAULT_ADDR/v1/{mount}/{}", self.at)
    }

    /// The content of [`PAYLOAD`]: the fields that are neither in a file nor in a shell variable. `None` if
    /// there are none.
    #[must_use]
    pub fn payload(&self) -> Option<Value> {
        let here = |(_, value): &(&String, &Value)| matches!(Source::of(value), Source::Here);
        let fields = self.fields.iter().filter(here);
        let fields: Map<_, _> = fields
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        (!fields.is_empty()).then(|| fields.into())
    }

    /// The command that builds the body of the request, if the body has more than [`PAYLOAD`].
    fn body(&self) -> Option<String> {
        let mut arguments = String::new();
        for (name, value) in &self.fields {
            arguments += &match Source::of(value) {
                Source::File(file) => format!(" --rawfile {name} {file}"),
                Source::Variable(variable) => format!(" --arg {name} \"{variable}\""),
                Source::Here => continue,
            };
        }
        if arguments.is_empty() {
            return None;
        }
        Some(match self.payload() {
            Some(_) => format!("jq{arguments} '. + $ARGS.named' {PAYLOAD}"),
            None => format!("jq --null-input{arguments} '$ARGS.named'"),
        })
    }
}

/// The separator between a command and its next argument.
const CONTINUED: &str = " \\\n    ";

/// Where a field's value comes from.
enum Source<'a> {
    /// The example itself.
    Here,
    /// A file, which keeps a secret out of the arguments of programs.
    File(&'a str),
    /// A shell variable, with its `$`.
    Variable(&'a str),
}

impl<'a> Source<'a> {
    fn of(value: &'a Value) -> Self {
        match value.as_str() {
            Some(text) if text.starts_with('$') => Self::Variable(text),
            Some(text) => text.strip_prefix('<').map_or(Self::Here, Self::File),
            None => Self::Here,
        }
    }
}

/// A value as an argument of `vault`. The items of a list are separated by commas.
fn argument(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(items) => {
            let items = items.iter().map(|item| match item {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            quoted(&items.collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

/// Quotes a text for a shell, if necessary.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@,+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else if text.contains(['"', '$', '`', '\\', '!']) {
        format!("'{}'", text.replace('\'', "'\\''"))
    } else {
        format!("\"{text}\"")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn write(fields: Value) -> Example {
        Example {
            path: "notes/:name".to_owned(),
            operation: "write".to_owned(),
            at: "notes/old".to_owned(),
            fields: fields.as_object().cloned().unwrap(),
            response: None,
        }
    }

    #[test]
    fn a_shell_reads_each_value_as_it_is() {
        for (value, expected) in [
            (json!("plain-1.5/x"), "plain-1.5/x"),
            (json!("two words"), "\"two words\""),
            (json!(""), "\"\""),
            (json!("{{name}}*"), "\"{{name}}*\""),
            (json!("it's $5"), "'it'\\''s $5'"),
            (json!(["app", "ci-*"]), "\"app,ci-*\""),
            (json!(["app", 5]), "app,5"),
            (json!(true), "true"),
        ] {
            assert_eq!(argument(&value), expected, "{value}");
        }
    }

    #[test]
    fn a_file_and_a_variable_are_in_no_payload() {
        let both = write(json!({"key": "<key.txt", "hash": "$HASH"}));
        assert_eq!(both.payload(), None);
        assert_eq!(
            both.cli("kv").unwrap(),
            "vault write kv/notes/old \\\n    hash=\"$HASH\" \\\n    key=- < key.txt"
        );
        assert_eq!(
            both.curl("kv"),
            "jq --null-input --arg hash \"$HASH\" --rawfile key key.txt '$ARGS.named' |\n  \
             curl --header \"X-Vault-Token: $VAULT_TOKEN\" \\\n    --request POST \\\n    \
             --data @- \\\n    $VAULT_ADDR/v1/kv/notes/old"
        );
        let more = write(json!({"key": "<key.txt", "text": "new"}));
        assert_eq!(more.payload(), Some(json!({"text": "new"})));
        let curl = more.curl("kv");
        let jq = "jq --rawfile key key.txt '. + $ARGS.named' payload.json |\n";
        assert!(curl.starts_with(jq), "{curl}");
    }

    #[test]
    fn an_answer_that_is_no_json_is_only_asked_for_with_curl() {
        let mut text = write(json!({}));
        text.operation = "read".to_owned();
        assert_eq!(text.cli("kv").unwrap(), "vault read kv/notes/old");
        text.response = Some("# text".into());
        assert_eq!(text.cli("kv"), None);
        assert_eq!(
            text.curl("kv"),
            "curl --header \"X-Vault-Token: $VAULT_TOKEN\" \\\n    $VAULT_ADDR/v1/kv/notes/old"
        );
    }
}
