//! Invariants of the data of a connection write.

use secrecy::ExposeSecret;

use super::write::accepted;
use super::write::assert_can_be_stored;
use super::write::fields as fields_of;
use crate::engine::connection::Connection;
use crate::engine::connection::fields;
use crate::framework::Fields;
use crate::logical::Data;

/// A refusal shows neither the management key nor the proxy's credentials. Accepted data can be stored,
/// and an update without fields changes nothing.
pub fn connection(data: &Data) {
    let Some(given) = fields_of(fields::WRITE, data) else {
        return;
    };
    let made = fields::apply(None, &given);
    if let Err(refusal) = &made {
        let refusal = refusal.to_string();
        for field in ["management_key", "proxy_url"] {
            let secret = given.secret(field).map(ExposeSecret::expose_secret);
            // A shorter one may be part of a word.
            let shown = secret.is_some_and(|s: &str| s.len() >= 16 && refusal.contains(s));
            assert!(!shown, "the refusal shows {field}: {refusal}");
        }
    }
    let Some(connection) = accepted(made) else {
        return;
    };
    assert_can_be_stored(&connection);
    let unchanged = accepted(fields::apply(Some(&connection), &Fields::default()));
    assert_eq!(
        unchanged.as_ref().map(serialized),
        Some(serialized(&connection)),
        "what an update does not name stays"
    );
}

fn serialized(connection: &Connection) -> String {
    serde_json::to_string(connection).unwrap_or_default()
}
