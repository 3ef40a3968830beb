//! What OpenRouter reports about a key that is to be adopted: contradictions, and limits that no role can ask
//! for.

use openrouter_simulator::{Fault, NewKey};
use serde_json::json;

use super::{adopt, by_hand};
use crate::harness::{ROTATE, World};

#[tokio::test]
async fn a_key_of_which_the_management_key_sees_something_else_is_not_adopted() {
    for (field, value, reason) in [
        ("disabled", json!(true), "disabled or expired"),
        (
            "expires_at",
            json!("2026-11-20T12:00:00Z"),
            "disabled or expired",
        ),
        ("label", json!("sk-or-v1-abc...wxyz"), "differs"),
        (
            "workspace_id",
            json!("0f8fad5b-d9cb-469f-a165-70867728950e"),
            "differs",
        ),
    ] {
        let world = World::connected().await;
        let key = by_hand(&world);
        let otherwise = Fault::edited_reply(json!({ field: value }));
        let faults = world.openrouter.faults();
        faults.add(otherwise.on("GET", "/keys/*"));
        let refusal = adopt(&world, key.secret(), json!({})).await.unwrap_err();
        assert!(refusal.contains(reason), "{field}: {refusal}");
        assert!(world.role("app").await.is_none(), "{field}");
        adopt(&world, key.secret(), json!({})).await.unwrap();
    }
}

#[tokio::test]
async fn a_key_whose_limits_no_role_can_ask_for_is_adopted_with_limits_that_the_write_names() {
    let odd_limit = json!({"limit": -1});
    let odd_reset = json!({"limit_reset": "hourly"});
    for (reported, asked, is_enough) in [
        (&odd_limit, json!({}), false),
        (&odd_limit, json!({"limit": 7}), true),
        (&odd_limit, json!({"budget": 7}), true),
        (&odd_reset, json!({}), false),
        (&odd_reset, json!({"limit": 7}), false),
        (
            &odd_reset,
            json!({"limit": 7, "limit_reset": "daily"}),
            true,
        ),
        (&odd_reset, json!({"budget": 7}), true),
    ] {
        let shown = format!("{asked} for {reported}");
        let world = World::connected().await;
        let key = world.openrouter.account().create_key(NewKey {
            limit: Some(20.0),
            ..NewKey::named("chatbot")
        });
        let odd = Fault::edited_reply(reported.clone()).on("GET", "/keys/*");
        world.openrouter.faults().add(odd.forever());
        let adopted = adopt(&world, key.secret(), asked).await;
        let limit = world.seen(&key.hash).limit;
        match adopted {
            Ok(_) => assert!(is_enough && limit == Some(7.0), "{shown}: {limit:?}"),
            Err(refusal) => {
                assert!(!is_enough, "{shown}: {refusal}");
                assert!(refusal.contains("give limit and limit_reset"), "{refusal}");
                assert_eq!(limit, Some(20.0), "{shown}");
            }
        }
    }
}

#[tokio::test]
async fn what_an_adopted_key_has_spent_counts_for_its_role_when_it_ends() {
    for counted in [json!({"track_usage": true}), json!({"budget": 100})] {
        let world = World::connected().await;
        let account = world.openrouter.account();
        let key = account.create_key(NewKey::named("chatbot"));
        adopt(&world, key.secret(), counted.clone()).await.unwrap();
        account.set_usage(&key.hash, 4.0).unwrap();
        let emergency = json!({"rotation_grace_period": 0});
        world.write(ROTATE, emergency).await.unwrap();
        world.pass(601).await;
        assert!(!world.lives(&key.hash), "{counted}");
        let usage = world.read("usage/app").await.unwrap().unwrap().data;
        assert_eq!(
            (&usage["spent_ever"], &usage["complete"]),
            (&json!(4.0), &json!(true)),
            "{counted}"
        );
    }
}
