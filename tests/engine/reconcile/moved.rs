//! Keys that were moved to another workspace at OpenRouter.

use openrouter_simulator::KeyChanges;
use serde_json::json;

use super::{HOUR, change, drift, found, monthly};

/// The workspace in which storage knows the key cannot be listed, but its new one can.
#[tokio::test]
async fn a_key_is_found_where_it_was_moved_to_although_its_workspace_was_deleted_then() {
    let world = monthly(json!({})).await;
    let account = world.openrouter.account();
    let team = account.add_workspace();
    let body = json!({"workspace_id": team});
    world.write("roles/team", body).await.unwrap();
    let hash = world.key_hash("team").await;
    let moved = KeyChanges {
        workspace_id: Some(account.default_workspace()),
        ..KeyChanges::default()
    };
    change(&world, &hash, moved);
    account.delete_workspace(&team).unwrap();
    world.pass(2 * HOUR).await;
    assert_eq!(drift(&world, "team").await, found("key_moved", &hash));
}
