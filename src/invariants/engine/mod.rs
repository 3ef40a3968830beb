//! What must hold for the data of any request.

mod connection;
mod role;
mod write;

use serde_json::Value;

use connection::connection;
use role::role;

/// The input is the JSON text of the data. It is taken as that of a write to a connection and of one
/// to a role of either kind.
pub fn request_data(input: &[u8]) {
    if let Ok(Value::Object(data)) = serde_json::from_slice(input) {
        connection(&data);
        role(&data);
    }
}
