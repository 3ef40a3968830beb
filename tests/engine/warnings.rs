//! What a write of a rotating role warns of, and where it is silent.

use serde_json::{Value, json};

use crate::harness::{ROLE, World, role};

const PER_KEY: &str = "limit is a limit of each key";
const NOBODY_ROTATES: &str = "rotation is not automated, but key_max_lifetime is set";

/// Each of these writes of the role warns of exactly this.
async fn all_warn(world: &World, writes: &[(Value, Vec<&str>)]) {
    for (body, expected) in writes {
        let answer = world.write(ROLE, body.clone()).await.unwrap();
        let warnings = answer.map_or_else(Vec::new, |answer| answer.warnings);
        assert_eq!(warnings.len(), expected.len(), "{body}: {warnings:?}");
        for (warning, expected) in warnings.iter().zip(expected) {
            assert!(warning.contains(expected), "{body}: {warnings:?}");
        }
    }
}

#[tokio::test]
async fn a_new_role_is_warned_of_what_its_limit_and_its_lifetime_do_not_do() {
    let by_hand = json!({"disable_automated_rotation": true, "key_max_lifetime": "90d"});
    for (body, expected) in [
        (role(), vec![PER_KEY]),
        (json!({}), vec![]),
        (json!({"key_max_lifetime": "90d"}), vec![]),
        (json!({"disable_automated_rotation": true}), vec![]),
        (by_hand, vec![NOBODY_ROTATES]),
    ] {
        let world = World::connected().await;
        all_warn(&world, &[(body, expected)]).await;
    }
}

#[tokio::test]
async fn a_change_says_what_waits_and_what_it_clears_and_nothing_else() {
    let world = World::with_role().await;
    let waits = "key_max_lifetime cannot be changed on the live key";
    let writes = [
        (json!({"description": "the same limit"}), vec![]),
        (json!({"limit": 6}), vec![PER_KEY]),
        (json!({"limit_reset": "daily"}), vec![]),
        (json!({"description": "the same reset"}), vec![]),
        (json!({"limit": null}), vec!["limit_reset is cleared"]),
        (json!({"description": "no limit"}), vec![]),
        (
            json!({"key_name": "other"}),
            vec!["key_name cannot be changed"],
        ),
        // The key lives for two hours and ten minutes.
        (
            json!({"rotation_period": "1d"}),
            vec![waits, "it is rotated at 2026-11-20T14:00:00Z, earlier"],
        ),
        (json!({"rotation_period": 3_600}), vec![waits]),
        (
            json!({"disable_automated_rotation": true, "key_max_lifetime": 7_800}),
            vec![NOBODY_ROTATES],
        ),
    ];
    all_warn(&world, &writes).await;
}
