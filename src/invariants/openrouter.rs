//! Invariants of answers, from OpenRouter or anybody else.

use std::fmt::Debug;
use std::time::Duration;

use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};

use super::answer::{Answer, retry_after};
use super::error::{Bearer, Error};
use super::identifiers::KeyHash;
use super::keys::is_usable;
use super::listing::ListedKey;
use super::quote::Hidden;
use crate::invariants::assert_can_be_shown;

/// The input is the status and a `Retry-After` on the first line, followed by the body.
pub fn answer(input: &[u8]) {
    let Some(received) = Received::of(input) else {
        return;
    };
    if let Some(created) = received.read(Answer::created_key) {
        assert!(is_usable(&created.secret), "it can be sent as a bearer");
        let secret = created.secret.expose_secret();
        // A shorter one may be part of a word.
        if secret.len() >= 16 {
            assert!(!created.key.label.contains(secret), "the label is the key");
        }
        assert_can_be_shown(&created.key.label);
    }
    if let Some(current) = received.read(Answer::current_key) {
        assert!(!current.label.contains(BEARER), "the label is the key");
        assert_can_be_shown(&current.label);
    }
    let asked = KeyHash::of(&BEARER.into());
    if let Some(key) = received.read(|answer| answer.key(&asked)) {
        assert_eq!(key.hash, asked, "it is about another key");
    }
    let listed = received.read(Answer::keys).unwrap_or_default();
    let listed = listed.into_iter().filter_map(|key| ListedKey::of(key).ok());
    for key in listed.filter_map(|key| key.read().ok()) {
        let label = KeyHash::of(&key.label.into());
        assert!(label != key.hash, "the label is the key");
    }
    received.read(Answer::deletion);
}

/// An answer as received from the network.
struct Received<'a> {
    status: StatusCode,
    retry_after: Option<Duration>,
    body: &'a [u8],
}

impl<'a> Received<'a> {
    fn of(input: &'a [u8]) -> Option<Self> {
        let end = input.iter().position(|byte| *byte == b'\n')?;
        let (line, body) = input.split_at_checked(end)?;
        let line = std::str::from_utf8(line).ok()?;
        let (status, wait) = line.split_once(' ').unwrap_or((line, ""));
        Some(Self {
            status: StatusCode::from_bytes(status.as_bytes()).ok()?,
            retry_after: retry_after(wait),
            body: body.get(1..)?,
        })
    }

    /// Reads the answer in one way. An error must be clear about its meaning, and show no key.
    fn read<T: Debug>(&self, reading: impl Fn(Answer) -> Result<T, Error>) -> Option<T> {
        let answer = Answer {
            status: self.status,
            retry_after: self.retry_after,
            body: Ok(self.body.to_vec()),
            bearer: Bearer::ManagementKey,
            hidden: Hidden::of([SecretString::from(BEARER)]),
        };
        let error = match reading(answer) {
            Ok(read) => return Some(read),
            Err(error) => error,
        };
        let text = error.to_string();
        assert_can_be_shown(&text);
        assert!(!text.contains(BEARER), "the bearer is shown: {text}");
        assert!(!text.contains("sk-or-"), "a key is shown: {text}");
        if self.status.is_success() || self.status.is_server_error() {
            assert!(!error.is_definite(), "{} is definite: {text}", self.status);
        }
        let longest = Duration::from_secs(24 * 60 * 60);
        assert!(error.retry_after().is_none_or(|wait| wait <= longest));
        None
    }
}

/// Unlike OpenRouter's keys, so only the comparison with the bearer can find it.
const BEARER: &str = "the-management-key-of-the-request";
