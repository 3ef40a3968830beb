//! Invariants of request data.

mod connection;
mod role;
mod write;

use serde_json::Value;

use connection::connection;
use role::role;

/// The input is the JSON text of the data. It is used for a write to a connection, and for a write to a
/// role of each kind.
pub fn request_data(input: &[u8]) {
    if let Ok(Value::Object(data)) = serde_json::from_slice(input) {
        connection(&data);
        role(&data);
    }
}
