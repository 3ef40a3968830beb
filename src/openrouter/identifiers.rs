//! Identifiers of keys and workspaces, for the API's paths and queries.
//!
//! The engine stores them. None contains a character that needs escaping in a URL.

use std::fmt;

use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::Invalid;

/// The identifier of a key in the API's paths: the SHA-256 of its secret, in lowercase hexadecimal.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct KeyHash(String);

impl KeyHash {
    /// The hash of a key whose secret is known.
    #[must_use]
    pub fn of(secret: &SecretString) -> Self {
        let digest = Sha256::digest(secret.expose_secret());
        Self(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Parses a hash in the API's form.
    ///
    /// # Errors
    /// [`Invalid::KeyHash`] unless it is 64 lowercase hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let hexadecimal = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == 64 && text.bytes().all(hexadecimal) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::KeyHash)
        }
    }

    /// The 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for KeyHash {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<KeyHash> for String {
    fn from(hash: KeyHash) -> Self {
        hash.0
    }
}

/// The UUID of a workspace, in lowercase.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct WorkspaceId(String);

impl WorkspaceId {
    /// Parses a UUID in the usual form of five groups; upper case is accepted.
    ///
    /// # Errors
    /// [`Invalid::WorkspaceId`] for anything else.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        uuid(text).map(Self).ok_or(Invalid::WorkspaceId)
    }

    /// The UUID.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkspaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for WorkspaceId {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<WorkspaceId> for String {
    fn from(id: WorkspaceId) -> Self {
        id.0
    }
}

/// The UUID of a guardrail, in lowercase.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct GuardrailId(String);

impl GuardrailId {
    /// Takes a UUID in its usual form of five groups; upper case is accepted.
    ///
    /// # Errors
    /// [`Invalid::GuardrailId`] for anything else.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        uuid(text).map(Self).ok_or(Invalid::GuardrailId)
    }

    /// The UUID.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GuardrailId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for GuardrailId {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<GuardrailId> for String {
    fn from(id: GuardrailId) -> Self {
        id.0
    }
}

/// How a path refers to a workspace: by UUID or slug.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkspaceRef(String);

impl WorkspaceRef {
    /// Takes a UUID, or a slug: 1 to 50 lowercase letters, digits and hyphens.
    ///
    /// # Errors
    /// [`Invalid::WorkspaceRef`] for anything else.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let fits = |byte: u8| byte == b'-' || byte.is_ascii_lowercase() || byte.is_ascii_digit();
        match uuid(text) {
            Some(id) => Ok(Self(id)),
            None if (1..=50).contains(&text.len()) && text.bytes().all(fits) => {
                Ok(Self(text.to_owned()))
            }
            None => Err(Invalid::WorkspaceRef),
        }
    }

    /// The form used in a path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&WorkspaceId> for WorkspaceRef {
    fn from(id: &WorkspaceId) -> Self {
        Self(id.as_str().to_owned())
    }
}

/// A UUID in lowercase, if the text is one.
fn uuid(text: &str) -> Option<String> {
    let groups = text.split('-').map(str::len);
    let digits = |byte: u8| byte == b'-' || byte.is_ascii_hexdigit();
    let is_one = groups.eq([8, 4, 4, 4, 12]) && text.bytes().all(digits);
    is_one.then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "8b2ab1b1c1a8f4a5b7d7e6f5a4b3c2d1e0f9e8d7c6b5a4938271605f4e3d2c1b";
    const UUID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

    #[test]
    fn a_hash_is_the_sha_256_of_the_secret() {
        let hash = KeyHash::of(&SecretString::from("abc"));
        // FIPS 180-2, appendix B.1.
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash.as_str(), known);
        assert_eq!(KeyHash::parse(known), Ok(hash));
    }

    #[test]
    fn a_hash_is_64_lowercase_hexadecimal_digits() {
        for text in [
            "",
            "../keys",
            &HASH[1..],
            &HASH.to_uppercase(),
            &format!("{HASH}0"),
        ] {
            assert_eq!(KeyHash::parse(text), Err(Invalid::KeyHash), "{text}");
        }
        let json = format!("\"{HASH}\"");
        let hash = serde_json::from_str::<KeyHash>(&json).unwrap();
        assert_eq!(serde_json::to_string(&hash).unwrap(), json);
        assert!(serde_json::from_str::<KeyHash>("\"x\"").is_err());
    }

    #[test]
    fn a_workspace_id_is_a_uuid() {
        assert_eq!(
            WorkspaceId::parse(&UUID.to_uppercase()).unwrap().as_str(),
            UUID
        );
        for text in [
            "",
            "default",
            &UUID.replace('-', ""),
            &UUID.replace('f', "g"),
            "a&b=c",
        ] {
            assert_eq!(
                WorkspaceId::parse(text),
                Err(Invalid::WorkspaceId),
                "{text}"
            );
        }
    }
    #[test]
    fn a_workspace_is_called_by_uuid_or_slug() {
        for text in [UUID, "default", "team-7", "a"] {
            assert_eq!(WorkspaceRef::parse(text).unwrap().as_str(), text);
        }
        let long = "a".repeat(51);
        for text in ["", "Team", "a/b", "a?b", "..", "a b", &long] {
            assert_eq!(
                WorkspaceRef::parse(text),
                Err(Invalid::WorkspaceRef),
                "{text}"
            );
        }
    }

    #[test]
    fn a_guardrail_id_is_a_uuid() {
        let id = GuardrailId::parse(&UUID.to_uppercase()).unwrap();
        assert_eq!(id.as_str(), UUID);
        assert_eq!(GuardrailId::parse("strict"), Err(Invalid::GuardrailId));
    }
}
