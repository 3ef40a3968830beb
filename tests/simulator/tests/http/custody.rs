//! Everything that can happen to a key behind a client's back, through the Rust handle and over HTTP.

use openrouter_simulator::{Account, KeyChanges, LimitReset, NewGuardrail, NewKey, Simulator};
use serde_json::{Value, json};

use crate::client::{Client, simulator};

/// One change, in both forms, and what a client sees of it.
struct Happening<'a> {
    what: &'a str,
    over_http: Value,
    by_handle: &'a dyn Fn(&Account, &str),
    /// Fields of `GET /keys/{hash}`; null if the key is gone.
    seen: Value,
}

/// A workspace, and two guardrails, the first of which is assigned to the key.
struct Place {
    workspace: String,
    guardrails: [String; 2],
}

fn place(simulator: &Simulator) -> Place {
    let account = simulator.account();
    let guardrail = |name| {
        account.add_guardrail(NewGuardrail {
            unscoped: true,
            ..NewGuardrail::named(name)
        })
    };
    Place {
        workspace: account.add_named_workspace("Team", "team").unwrap(),
        guardrails: [guardrail("one"), guardrail("two")],
    }
}

/// Applies both forms to a key each, and checks that the results and answers are the same.
async fn happens(simulator: &Simulator, guardrail: &str, happening: Happening<'_>) {
    let Happening {
        what,
        over_http,
        by_handle,
        seen,
    } = happening;
    let (client, account) = (Client::of(simulator), simulator.account());
    let control = Client::at(simulator.control_url(), None);
    for by_hand in [true, false] {
        let hash = account.create_key(NewKey::named("app")).hash;
        account.assign_guardrail(&hash, guardrail).unwrap();
        if by_hand {
            by_handle(account, &hash);
        } else {
            let answer = control
                .post(&format!("/keys/{hash}"), over_http.clone())
                .await;
            assert_eq!(answer.status, 200, "{what}: {answer:?}");
        }
        let found = client.get(&format!("/keys/{hash}")).await;
        match seen.as_object() {
            None => assert_eq!(found.status, 404, "{what}"),
            Some(fields) => {
                for (field, value) in fields {
                    assert_eq!(&found.body["data"][field], value, "{what}: {field}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_key_is_deleted_disabled_limited_renamed_moved_and_used() {
    let simulator = simulator().await;
    let place = place(&simulator);
    let changed = |changes: KeyChanges| {
        move |account: &Account, hash: &str| account.change_key(hash, &changes).unwrap()
    };
    let now = json!("2026-11-20T12:00:00.000000+00:00");
    let limited = changed(KeyChanges {
        limit: Some(Some(1.5)),
        limit_reset: Some(Some(LimitReset::Weekly)),
        include_byok_in_limit: Some(true),
        ..KeyChanges::default()
    });
    let renamed = changed(KeyChanges {
        name: Some("renamed".into()),
        ..KeyChanges::default()
    });
    let moved = changed(KeyChanges {
        workspace_id: Some(place.workspace.clone()),
        ..KeyChanges::default()
    });
    let used = "2026-11-19T08:00:00Z".parse().unwrap();
    let expiry = "2026-12-24T18:00:00Z".parse().unwrap();
    let happenings = [
        Happening {
            what: "deleted",
            over_http: json!({ "deleted": true }),
            by_handle: &|account, hash| account.delete_key(hash).unwrap(),
            seen: Value::Null,
        },
        Happening {
            what: "disabled",
            over_http: json!({ "disabled": true }),
            by_handle: &|account, hash| account.set_disabled(hash, true).unwrap(),
            seen: json!({ "disabled": true, "updated_at": now }),
        },
        Happening {
            what: "limited",
            over_http: json!({
                "limit": 1.5, "limit_reset": "weekly", "include_byok_in_limit": true,
            }),
            by_handle: &limited,
            seen: json!({
                "limit": 1.5, "limit_reset": "weekly", "include_byok_in_limit": true, "updated_at": now,
            }),
        },
        Happening {
            what: "renamed",
            over_http: json!({ "name": "renamed" }),
            by_handle: &renamed,
            seen: json!({ "name": "renamed", "updated_at": now }),
        },
        Happening {
            what: "moved",
            over_http: json!({ "workspace_id": place.workspace }),
            by_handle: &moved,
            seen: json!({ "workspace_id": place.workspace, "updated_at": now }),
        },
        Happening {
            what: "used",
            over_http: json!({ "last_used_at": used }),
            by_handle: &|account, hash| account.set_last_used(hash, Some(used)).unwrap(),
            seen: json!({ "last_used_at": used, "updated_at": null }),
        },
        Happening {
            what: "spent",
            over_http: json!({ "usage": 2, "byok_usage": 3 }),
            by_handle: &|account, hash| {
                account.set_usage(hash, 2.0).unwrap();
                account.set_byok_usage(hash, 3.0).unwrap();
            },
            seen: json!({ "usage": 2, "usage_daily": 2, "byok_usage": 3 }),
        },
        Happening {
            what: "expires",
            over_http: json!({ "expires_at": expiry }),
            by_handle: &|account, hash| account.set_expiry(hash, Some(expiry)).unwrap(),
            seen: json!({ "expires_at": expiry }),
        },
    ];
    for happening in happenings {
        happens(&simulator, &place.guardrails[0], happening).await;
    }
}

#[tokio::test]
async fn a_key_is_enabled_and_its_limit_is_taken_away() {
    let simulator = simulator().await;
    let place = place(&simulator);
    let control = Client::at(simulator.control_url(), None);
    let key = simulator.account().create_key(NewKey {
        limit: Some(3.0),
        ..NewKey::named("app")
    });
    let path = format!("/keys/{}", key.hash);
    control.post(&path, json!({ "disabled": true })).await;
    let change = json!({ "disabled": false, "limit": null });
    let changed = control.post(&path, change).await.body;
    assert_eq!(
        (&changed["disabled"], &changed["limit"]),
        (&json!(false), &Value::Null)
    );
    // If one change is not possible, none is made.
    let refused = json!({ "limit": 7, "guardrail_id": "none" });
    assert_eq!(control.post(&path, refused).await.status, 404);
    let nowhere = json!({ "limit": 7, "workspace_id": "nowhere" });
    assert_eq!(control.post(&path, nowhere).await.status, 404);
    assert_eq!(simulator.account().key(&key.hash).unwrap().limit, None);
    assert_eq!(simulator.account().guardrail_of(&key.hash), None);
    drop(place);
}

#[tokio::test]
async fn a_guardrail_is_taken_off_and_changed() {
    let simulator = simulator().await;
    let account = simulator.account();
    let control = Client::at(simulator.control_url(), None);
    let place = place(&simulator);
    let [one, other] = &place.guardrails;
    for (body, expected) in [
        (json!({ "guardrail_id": one }), Some(one)),
        (json!({ "guardrail_id": other }), Some(other)),
        (json!({ "guardrail_id": null }), None),
    ] {
        let [over_http, by_handle] = ["app", "app"].map(|name| {
            let hash = account.create_key(NewKey::named(name)).hash;
            account.assign_guardrail(&hash, one).unwrap();
            hash
        });
        let path = format!("/keys/{over_http}");
        let shown = control.post(&path, body).await.body;
        assert_eq!(shown["guardrail_id"], json!(expected));
        match expected {
            Some(guardrail) => account.assign_guardrail(&by_handle, guardrail).unwrap(),
            None => assert!(account.unassign_guardrail(&by_handle)),
        }
        for hash in [over_http, by_handle] {
            assert_eq!(account.guardrail_of(&hash).as_ref(), expected);
        }
    }
}

#[tokio::test]
async fn a_guardrail_itself_is_created_changed_and_deleted() {
    let simulator = simulator().await;
    let control = Client::at(simulator.control_url(), None);
    let asked = json!({ "name": "strict", "limit_usd": 5, "reset_interval": "daily" });
    let created = control.post("/guardrails", asked).await;
    assert_eq!(created.status, 201);
    let path = format!("/guardrails/{}", created.text("/id"));
    let change = json!({ "name": "lax", "limit_usd": 9, "allowed_models": ["a/b"] });
    let changed = control.post(&path, change).await.body;
    assert_eq!(
        [
            &changed["name"],
            &changed["limit_usd"],
            &changed["reset_interval"]
        ],
        [&json!("lax"), &json!(9), &json!("daily")]
    );
    let listed = control.get("/guardrails").await.body;
    assert_eq!(listed["data"], json!([changed]));
    assert_eq!(control.delete(&path).await.status, 204);
    assert_eq!(control.delete(&path).await.status, 404);
    assert!(simulator.account().guardrails().is_empty());
}

#[tokio::test]
async fn a_workspace_is_created_renamed_given_a_budget_and_deleted() {
    let simulator = simulator().await;
    let control = Client::at(simulator.control_url(), None);
    let asked = json!({ "name": "Team", "slug": "team" });
    let created = control.post("/workspaces", asked.clone()).await;
    assert_eq!(created.status, 201);
    assert_eq!(control.post("/workspaces", asked).await.status, 409);
    let id = created.text("/id");
    let change = json!({
        "slug": "crew", "budgets": [{ "limit_usd": 3, "interval": "monthly" }],
    });
    let changed = control.post("/workspaces/team", change).await.body;
    assert_eq!(
        (&changed["slug"], &changed["name"]),
        (&json!("crew"), &json!("Team"))
    );
    let workspace = simulator.account().workspace("crew").unwrap();
    assert_eq!(workspace.id, id);
    assert_eq!(workspace.budgets[0].interval, Some(LimitReset::Monthly));
    assert_eq!(control.delete("/workspaces/crew").await.status, 204);
    assert_eq!(simulator.account().workspaces().len(), 1);
}

#[tokio::test]
async fn accounts_are_opened_and_made_organizations_with_members() {
    let simulator = simulator().await;
    let (client, control) = (
        Client::of(&simulator),
        Client::at(simulator.control_url(), None),
    );
    let asked = json!({ "management_key": "sk-or-v1-second", "organization": true });
    let opened = control.post("/accounts", asked).await;
    assert_eq!((opened.status, &opened.body["account"]), (201, &json!(1)));
    let odd = json!({ "management_key": "hunter2" });
    assert_eq!(control.post("/accounts", odd).await.status, 422);

    let asked = json!({ "account": 1, "email": "a@example.com", "role": "admin" });
    let member = control.post("/members", asked).await.text("/id");
    let asked = json!({
        "account": 1, "name": "theirs", "creator_user_id": member, "limit": 2, "count": 2,
    });
    let created = control.post("/keys", asked).await;
    let hash = created.text("/hashes/1");
    let second = client.with("sk-or-v1-second");
    assert_eq!(second.names("/keys").await, ["theirs 2", "theirs 1"]);
    assert!(client.names("/keys").await.is_empty());
    let data = second.get(&format!("/keys/{hash}")).await.body["data"].clone();
    assert_eq!(
        (&data["creator_user_id"], &data["limit"]),
        (&json!(member), &json!(2))
    );
    let shown = control.get("/keys").await.body;
    assert_eq!(shown["data"][0]["account"], json!(1));

    let path = format!("/members/{member}");
    assert_eq!(control.delete(&path).await.status, 204);
    assert_eq!(control.delete(&path).await.status, 404);
    let data = second.get(&format!("/keys/{hash}")).await.body["data"].clone();
    assert_eq!(data["disabled"], json!(true));
    let person = json!({ "email": "b@example.com" });
    assert_eq!(control.post("/members", person.clone()).await.status, 409);
    let organization = json!({ "organization": true });
    let changed = control.post("/accounts/0", organization).await.body;
    assert!(changed["organization_id"].is_string());
    assert_eq!(control.post("/members", person).await.status, 201);
    assert_eq!(
        control.get("/members").await.body["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn billing_is_read_and_changed_and_calls_are_completed_one_by_one() {
    let simulator = simulator().await;
    let (client, control) = (
        Client::of(&simulator),
        Client::at(simulator.control_url(), None),
    );
    let change = json!({
        "price": { "usd": 0.25 }, "prices": { "own": { "usd": 1, "byok": true } },
        "reporting_lag_seconds": 30, "enforcement_lag_seconds": 5, "charged_in": "start",
        "exhausted": "payment_required", "credits_with_ordinary_key": "zeros", "hold_calls": true,
    });
    assert_eq!(control.post("/billing", change).await.status, 200);
    let rules = control.get("/billing").await.body;
    assert_eq!(rules["price"], json!({ "usd": 0.25, "byok": false }));
    assert_eq!(rules["call_milliseconds"], json!(0));
    assert_eq!(simulator.billing().rules().reporting_lag_seconds, 30);
    let misspelt = json!({ "prise": { "usd": 1 } });
    assert_eq!(control.post("/billing", misspelt).await.status, 422);

    let (hash, secret) = client.create(json!({ "name": "app" })).await;
    let call = tokio::spawn({
        let (client, secret) = (client.clone(), secret.clone());
        async move { client.complete(&secret).await.0 }
    });
    let shown = loop {
        let calls = control.get("/calls").await.body;
        if calls["data"] != json!([]) {
            break calls["data"][0].clone();
        }
    };
    assert_eq!(
        (&shown["number"], &shown["key_hash"]),
        (&json!(1), &json!(hash))
    );
    assert_eq!(
        control.post("/calls/9/complete", json!({})).await.status,
        404
    );
    assert_eq!(
        control.post("/calls/1/complete", json!({})).await.status,
        204
    );
    assert_eq!(call.await.unwrap(), 200);
    let usage = simulator.account().key(&hash).unwrap().usage;
    assert_eq!(usage.total(), 0.25);
}
