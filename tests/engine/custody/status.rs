//! The health of the mount: what `status` and `metrics` report about events.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use openrouter_simulator::Fault;
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::{
    Data, Entry, FixedSystemView, ReplicationState, Storage,
};

use super::{every_minute, with_keys};
use crate::harness::{CI, ROLE, ROTATE, World, role};

async fn status(world: &World) -> Data {
    world.read("status").await.unwrap().unwrap().data
}

/// The value of a sample; `None` when there is no such line.
/// The value of a sample in the metrics; `None` if it does not exist.
pub(crate) async fn metric(world: &World, sample: &str) -> Option<f64> {
    let answer = world.read("metrics").await.unwrap().unwrap().data;
    assert_eq!(answer["http_status_code"], 200);
    let body = BASE64_STANDARD.decode(answer["http_raw_body"].as_str().unwrap());
    let text = String::from_utf8(body.unwrap()).unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let mut lines = text.lines().filter_map(|line| line.rsplit_once(' '));
    let (_, value) = lines.find(|(name, _)| *name == sample)?;
    Some(value.parse().unwrap())
}

#[tokio::test]
async fn roles_and_keys_are_counted_as_they_come_and_go() {
    let (world, _) = with_keys().await;
    let told = status(&world).await;
    assert_eq!(
        told["keys"],
        json!({"current": 1, "superseded": 1, "held": 0, "leased": 1, "pending": 0, "lost": 0})
    );
    assert_eq!(
        told["roles"],
        json!({"rotating": 1, "dynamic": 1, "failed": 0, "unreadable": 0})
    );
    assert_eq!(
        metric(&world, "vault_openrouter_keys{kind=\"superseded\"}").await,
        Some(1.0)
    );
    world.pass(601).await;
    world.revoke().await.unwrap();
    world.delete("roles/ci", Value::Null).await.unwrap();
    let told = status(&world).await;
    assert_eq!(told["keys"]["superseded"], 0);
    assert_eq!(told["keys"]["leased"], 0);
    assert_eq!(told["roles"]["dynamic"], 0);
    world.delete("roles/app", Value::Null).await.unwrap();
    assert_eq!(status(&world).await["keys"]["current"], 0);
}

#[tokio::test]
async fn what_fails_is_named_until_it_works_again() {
    let world = World::with_role().await;
    world
        .openrouter
        .faults()
        .add(Fault::status(503).on("POST", "/keys").forever());
    world.pass(3_700).await;
    let told = status(&world).await;
    assert_eq!(told["attention"]["count"], 1);
    assert!(
        told["attention"]["roles"]["app"]
            .to_string()
            .contains("503")
    );
    assert_eq!(told["overdue"]["rotations"]["count"], 1);
    assert_eq!(told["overdue"]["rotations"]["roles"], json!(["app"]));
    assert_eq!(
        told["overdue"]["rotations"]["since"],
        world.after(-100).to_string()
    );
    assert!(
        told["connections"]["default"]["last_error"]
            .to_string()
            .contains("server error")
    );
    let failures = "vault_openrouter_rotation_failures_total{reason=\"unclear\"}";
    assert!(metric(&world, failures).await.unwrap() >= 1.0);
    let overdue = "vault_openrouter_overdue{what=\"rotation\"}";
    assert_eq!(metric(&world, overdue).await, Some(1.0));
    world.openrouter.faults().clear();
    world.pass(3_600).await;
    let told = status(&world).await;
    assert_eq!(told["attention"], json!({"count": 0, "roles": {}}));
    assert_eq!(told["overdue"]["rotations"]["count"], 0);
    assert_eq!(metric(&world, overdue).await, Some(0.0));
    let since = "vault_openrouter_overdue_since_timestamp_seconds{what=\"rotation\"}";
    assert_eq!(metric(&world, since).await, None);
}

#[tokio::test]
async fn a_revocation_that_fails_is_overdue() {
    let world = World::with_role().await;
    world.write(ROTATE, Value::Null).await.unwrap();
    world
        .openrouter
        .faults()
        .add(Fault::status(500).on("DELETE", "/keys/*").forever());
    world.pass(700).await;
    let told = status(&world).await;
    assert_eq!(told["overdue"]["revocations"]["count"], 1);
    assert!(
        told["attention"]["roles"]["app"]
            .to_string()
            .contains("may still work")
    );
    let failures = "vault_openrouter_revocation_failures_total{reason=\"unclear\"}";
    assert!(metric(&world, failures).await.unwrap() >= 1.0);
}

#[tokio::test]
async fn operations_are_counted_by_kind() {
    let (world, _) = with_keys().await;
    world
        .write(ROTATE, json!({"rotation_grace_period": 0}))
        .await
        .unwrap();
    world.read("static-creds/app").await.unwrap();
    world.pass(3_600).await;
    for (sample, least) in [
        ("vault_openrouter_rotations_total{trigger=\"manual\"}", 1.0),
        (
            "vault_openrouter_rotations_total{trigger=\"emergency\"}",
            1.0,
        ),
        (
            "vault_openrouter_rotations_total{trigger=\"schedule\"}",
            1.0,
        ),
        ("vault_openrouter_revocations_total{why=\"role\"}", 2.0),
        ("vault_openrouter_reads_total{kind=\"dynamic\"}", 1.0),
        ("vault_openrouter_reads_total{kind=\"static\"}", 1.0),
        ("vault_openrouter_reads_total{kind=\"leased\"}", 1.0),
        (
            "vault_openrouter_requests_total{method=\"POST\",outcome=\"success\"}",
            4.0,
        ),
        ("vault_openrouter_ready", 1.0),
    ] {
        let value = metric(&world, sample).await.unwrap_or_default();
        assert!(value >= least, "{sample} is {value}");
    }
}

#[tokio::test]
async fn an_unreadable_role_and_the_start_of_the_work_are_shown() {
    let world = World::with_role().await;
    let (key, value) = ("roles/broken".to_owned(), b"{".to_vec());
    world.storage.put(Entry { key, value }).await.unwrap();
    world.restart().await;
    world.quiet().await;
    let told = status(&world).await;
    assert_eq!(told["roles"]["unreadable"], 1);
    assert!(
        told["attention"]["roles"]["broken"]
            .to_string()
            .contains("cannot be read")
    );
    assert_eq!(told["working_since"], world.time.now().to_string());
    assert_eq!(told["last_reconciliation"], world.time.now().to_string());
}

#[tokio::test]
async fn a_standby_forwards_what_it_does_not_know() {
    let world = World::with_role().await;
    world
        .fail_over(FixedSystemView {
            replication_state: ReplicationState::PERFORMANCE_STANDBY,
            ..FixedSystemView::default()
        })
        .await;
    for path in ["status", "metrics", "keys/default"] {
        let refusal = world.read(path).await.unwrap_err();
        assert!(
            refusal.to_string().contains("readonly"),
            "{path}: {refusal}"
        );
    }
}

#[tokio::test]
async fn a_role_whose_key_has_expired_needs_a_person() {
    let world = World::connected().await;
    let mut manual = role();
    manual["disable_automated_rotation"] = json!(true);
    manual["key_max_lifetime"] = json!(7_200);
    world.write(ROLE, manual).await.unwrap();
    world.pass(8_000).await;
    world.read("creds/app").await.unwrap_err();
    let status = world.run("status").await;
    let read = world.role("app").await.unwrap();
    assert_ne!(
        (&status["attention"]["count"], &read["rotation_status"]),
        (&json!(0), &json!("success"))
    );
}

#[tokio::test]
async fn what_a_comparison_finds_is_in_the_status_of_the_mount() {
    let world = World::with_dynamic_role().await;
    every_minute(&world).await;
    let leased = world.lease().await.unwrap();
    let hash = leased["key_hash"].as_str().unwrap();
    world.openrouter.account().set_disabled(hash, true).unwrap();
    world.delete(CI, Value::Null).await.unwrap();
    world.pass(120).await;
    let status = Value::from(world.run("status").await).to_string();
    assert!(status.contains("leased_key_disabled"), "{status}");
}
