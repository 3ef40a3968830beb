//! What must hold for the data of any request.

use serde_json::Value;

use super::connection::any_input::connection;
use super::role::any_input::role;

/// The input is the JSON text of the data. It is taken as that of a write to a connection and of one
/// to a role of either kind.
pub fn request_data(input: &[u8]) {
    if let Ok(Value::Object(data)) = serde_json::from_slice(input) {
        connection(&data);
        role(&data);
    }
}
