//! A planted secret, and how a text is searched for it: as it is, in the encodings that programs use, and for
//! any part of it that is long enough to be useful to an attacker.

use std::collections::HashMap;

use base64::Engine as _;
use base64::alphabet::{self, Alphabet};
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};

/// The secrets to search for.
#[derive(Default)]
pub(super) struct Planted {
    /// Every part of [`PART`] bytes, with the secret that it is a part of.
    parts: HashMap<Vec<u8>, String>,
    names: Vec<String>,
}

impl Planted {
    /// Adds a secret.
    pub(super) fn plant(&mut self, name: &str, secret: &str) {
        assert!(
            secret.len() >= PART,
            "{name} is too short to be known again"
        );
        self.names.push(name.to_owned());
        for (form, text) in forms(secret) {
            for part in text.as_bytes().windows(PART) {
                self.parts
                    .entry(part.to_vec())
                    .or_insert_with(|| format!("{name} ({form})"));
            }
        }
    }

    /// How many secrets there are.
    pub(super) fn count(&self) -> usize {
        self.names.len()
    }

    /// The first secret of which the text contains a part.
    pub(super) fn found_in(&self, text: &[u8]) -> Option<&str> {
        text.windows(PART)
            .find_map(|part| self.parts.get(part))
            .map(String::as_str)
    }
}

/// The secret as it is, and in every other form that can be read.
fn forms(secret: &str) -> Vec<(&'static str, String)> {
    let bytes = secret.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let percent: String = bytes.iter().map(|byte| format!("%{byte:02X}")).collect();
    let mut forms = vec![
        ("hexadecimal", hex.to_uppercase()),
        ("hexadecimal", hex),
        ("percent-encoded", percent.to_lowercase()),
        ("percent-encoded", percent),
        (
            "percent-encoded",
            url::form_urlencoded::byte_serialize(bytes).collect(),
        ),
        ("reversed", secret.chars().rev().collect()),
    ];
    for alphabet in [&alphabet::STANDARD, &alphabet::URL_SAFE] {
        forms.extend((0..3).map(|offset| ("base64", base64(alphabet, bytes, offset))));
    }
    forms.push(("as it is", secret.to_owned()));
    // If several forms have a part in common, the plainest form names it.
    forms.reverse();
    forms
}

/// The part of the base64 form of a longer text that depends only on the secret, which begins `offset` bytes
/// after a multiple of three in it.
fn base64(alphabet: &Alphabet, secret: &[u8], offset: usize) -> String {
    let mut text = vec![0; offset];
    text.extend_from_slice(secret);
    let encoded = GeneralPurpose::new(alphabet, NO_PAD).encode(&text);
    let (from, to) = ((offset * 8).div_ceil(6), text.len() * 8 / 6);
    encoded[from..to].to_owned()
}

/// In bytes. No word, hash or label has this many in common with a secret by chance.
const PART: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "sk-or-v1-0123456789abcdef@/+0123456789";

    fn found(text: &str) -> Option<String> {
        let mut planted = Planted::default();
        planted.plant("the key", SECRET);
        planted.found_in(text.as_bytes()).map(str::to_owned)
    }

    #[test]
    fn a_secret_is_found_in_each_of_its_forms() {
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("user:{SECRET}"));
        let bearer = base64::engine::general_purpose::URL_SAFE.encode(format!("Bearer {SECRET}"));
        let hex: String = SECRET.bytes().map(|byte| format!("{byte:02X}")).collect();
        for (text, form) in [
            (format!("Authorization: Bearer {SECRET}"), "as it is"),
            (format!("{{\"x\":\"{}\"}}", &SECRET[5..22]), "as it is"),
            (format!("Basic {basic}"), "base64"),
            (format!("?token={bearer}&"), "base64"),
            (hex, "hexadecimal"),
            ("a=abcdef%40%2F%2B0123".to_owned(), "percent-encoded"),
            (SECRET.chars().rev().collect(), "reversed"),
        ] {
            let expected = format!("the key ({form})");
            assert_eq!(found(&text), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_label_of_a_secret_is_not_the_secret() {
        assert_eq!(found("sk-or-v1-012...6789 is disabled"), None);
    }
}
