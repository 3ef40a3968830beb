//! Makes texts of OpenRouter, or of a proxy, safe to store and show: one line of limited length,
//! without keys.

use secrecy::{ExposeSecret, SecretString};

/// The secrets of a request that an answer may repeat: its key, and the credentials of a proxy.
#[derive(Clone)]
pub(super) struct Hidden(Vec<SecretString>);

impl Hidden {
    /// Hides these secrets. One that contains another is replaced first.
    pub(super) fn of(secrets: impl IntoIterator<Item = SecretString>) -> Self {
        Self(secrets.into_iter().collect())
    }

    /// An error message that is safe to show. Anything else that looks like a key is removed too.
    pub(super) fn quotable(&self, text: &str) -> String {
        shortened(&redact_keys(&self.taken_from(&one_line(text))))
    }

    /// The abbreviated form of a key, such as `sk-or-v1-0e6...1c96`. It looks like a key on purpose.
    pub(super) fn label(&self, text: &str) -> String {
        shortened(&self.taken_from(&one_line(text)))
    }

    fn taken_from(&self, text: &str) -> String {
        let secrets = self.0.iter().map(ExposeSecret::expose_secret);
        secrets
            .filter(|secret| !secret.is_empty())
            .fold(text.to_owned(), |text, secret| {
                text.replace(secret, REDACTED)
            })
    }
}

fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The text without anything that looks like a key. All of OpenRouter's keys start with `sk-or-`.
pub(super) fn redact_keys(text: &str) -> String {
    let mut parts = text.split("sk-or-");
    let mut redacted = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        redacted.push_str(REDACTED);
        redacted.push_str(
            part.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_'),
        );
    }
    redacted
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(QUOTE_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

const QUOTE_CHARS: usize = 300;
const REDACTED: &str = "[redacted]";

#[cfg(test)]
mod tests {
    use super::*;

    fn quote(text: &str) -> String {
        Hidden::of(["cHJveHk6cGFzcw==", "the-bearer-itself"].map(SecretString::from)).quotable(text)
    }

    #[test]
    fn a_quoted_message_is_one_line_without_control_characters() {
        assert_eq!(quote("  a\r\nb\u{1b}[31mc\t\0d "), "a b [31mc d");
    }

    #[test]
    fn a_quoted_message_contains_no_key() {
        assert_eq!(
            quote("sk-or-v1-0123abc is not sk-or-mgmt-9_9, nor \"the-bearer-itself\"."),
            "[redacted] is not [redacted], nor \"[redacted]\"."
        );
        assert_eq!(
            quote("Proxy-Authorization: Basic cHJveHk6cGFzcw=="),
            "Proxy-Authorization: Basic [redacted]"
        );
    }

    #[test]
    fn a_long_message_is_cut_after_the_keys_are_gone() {
        let quoted = quote(&format!("{} sk-or-v1-{}", "é".repeat(295), "f".repeat(64)));
        assert_eq!(quoted, format!("{} [red…", "é".repeat(295)));
    }

    #[test]
    fn a_label_stays_as_it_is_unless_it_is_the_key() {
        let hidden = Hidden::of([SecretString::from("sk-or-v1-0e6fffffff1c96")]);
        for (told, kept) in [
            ("sk-or-v1-0e6...1c96", "sk-or-v1-0e6...1c96"),
            ("sk-or-v1-0e6fffffff1c96", "[redacted]"),
            ("two\nlines", "two lines"),
        ] {
            assert_eq!(hidden.label(told), kept);
        }
        assert_eq!(hidden.label(&"x".repeat(9_999)).chars().count(), 301);
    }
}
