//! A role's budget on a real server: its keys spend at most the budget, whatever is rotated.

use serde_json::json;

use crate::dynamic::revoke;
use crate::harness::{Mount, SOON, eventually};

/// The price of a call at the simulator, in cents.
const PRICE: u32 = 1;

/// Applications that spend with keys, and their total spending in cents.
struct Applications<'a> {
    mount: &'a Mount,
    spent: u32,
}

impl Applications<'_> {
    /// Makes one call. Returns whether the key could pay for it.
    async fn call(&mut self, key: &str) -> bool {
        let accepted = self.mount.openrouter.accepts(key).await;
        self.spent += if accepted { PRICE } else { 0 };
        accepted
    }

    /// Makes calls until the key is refused.
    async fn exhaust(&mut self, key: &str) {
        while self.call(key).await {}
    }
}

#[tokio::test]
async fn ten_rotations_and_two_emergencies_spend_the_budget_and_no_more() {
    let mount = Mount::new().await;
    let budget = 600;
    let body =
        json!({"budget": 6, "budget_reset": "monthly", "rotation_grace_period": "1h", "ttl": 60});
    mount.role("app", body).await;
    let mut applications = Applications {
        mount: &mount,
        spent: 0,
    };
    for round in 0..12 {
        let key = mount.key("app").await;
        // Shares are whole cents if the remaining amount is a multiple of ten. Then no call overshoots.
        for _ in 0..7 {
            assert!(applications.call(&key).await, "round {round}");
        }
        while !applications.spent.is_multiple_of(10) {
            assert!(applications.call(&key).await, "round {round}");
        }
        let is_emergency = round == 5 || round == 11;
        let body = if is_emergency {
            json!({"rotation_grace_period": 0})
        } else {
            json!({})
        };
        mount.write("rotate-role/app", body).await.ok();
        let before = applications.spent;
        applications.exhaust(&key).await;
        let share = if is_emergency {
            0
        } else {
            (budget - before) / 10
        };
        assert_eq!(applications.spent - before, share, "round {round}");
    }
    let last = mount.key("app").await;
    applications.exhaust(&last).await;
    let spent = applications.spent;
    assert!(
        (budget..=budget + PRICE).contains(&spent),
        "{spent} cents of {budget}"
    );
    let usage = mount.read("usage/app").await.ok();
    let usd = |field| usage.field(field).as_f64().unwrap();
    assert_eq!(usd("budget"), 6.0);
    // In cents. Older keys that were disabled still count.
    assert_eq!((usd("spent_month") * 100.0).round(), f64::from(spent));
    let remaining = usd("remaining");
    assert!(remaining < 0.011, "{remaining}");
    let told = usage.text("limited_by");
    let expected = "the limit of the current key is spent: ";
    assert!(told.starts_with(expected), "{told}");
}

#[tokio::test]
async fn leases_take_their_limits_out_of_a_budget_and_give_back_what_they_did_not_spend() {
    let mount = Mount::new().await;
    let role = json!({
        "credential_type": "dynamic", "limit": 1, "budget": 2, "budget_alert_percent": 1, "ttl": "10m",
    });
    mount.role("ci", role).await.ok();
    let less = json!({"limit": 0.50, "ttl": "5m"});
    let less = mount.write("creds/ci", less).await.ok();
    assert_eq!(less.field("limit"), 0.5);
    assert_eq!(less.lease_duration(), 300);
    mount
        .write("creds/ci", json!({"limit": 1.5}))
        .await
        .refused(400, &["at most 1, the role's limit"]);
    let lease = mount.read("creds/ci").await.ok();
    let left = "has 0.5 US dollars left";
    let refusal = mount.read("creds/ci").await;
    let told = [left, "there will be room at"];
    let refusal = refusal.refused(429, &told);
    // The server drops headers that the mount does not allow.
    assert_eq!(refusal.header("Retry-After"), None);
    let tune = format!("sys/mounts/{}/tune", mount.path());
    let allowed = json!({"allowed_response_headers": ["Retry-After"]});
    mount.client().write(&tune, allowed).await.ok();
    let refusal = mount.read("creds/ci").await;
    let seconds = refusal.header("Retry-After").map(str::parse::<u64>);
    let seconds = seconds.expect("it is allowed now").unwrap();
    // The first lease ends in five minutes at the latest, and its final reading is taken ten minutes later.
    assert!((1..=901).contains(&seconds), "{seconds}");
    let asked = mount.read("creds/ci?limit=0.6").await;
    asked.refused(429, &[left, "a lease takes 0.6"]);
    let asked = mount.read("creds/ci?ttl=1h").await;
    asked.refused(400, &["at most 600, the role's ttl"]);
    let key = lease.text("api_key");
    // Together one percent of the budget.
    for _ in 0..2 {
        assert!(mount.openrouter.accepts(&key).await);
    }
    revoke(mount.client(), &lease).await.ok();
    assert!(!mount.openrouter.accepts(&key).await);
    // Another role has no budget, but tracks its usage.
    let role = json!({"credential_type": "dynamic", "track_usage": true});
    mount.role("batch", role).await.ok();
    let tracked = mount.read("creds/batch").await.ok();
    assert!(mount.openrouter.accepts(&tracked.text("api_key")).await);
    revoke(mount.client(), &tracked).await.ok();
    assert!(!mount.openrouter.accepts(&tracked.text("api_key")).await);
    // The key counts until its final reading, which the teardown takes at once.
    mount.read("creds/ci").await.refused(429, &[left]);
    mount.write("teardown", json!({})).await.ok();
    eventually("no key is left", SOON, async || {
        mount.openrouter.hashes().is_empty().then_some(())
    })
    .await;
    mount.delete("teardown").await.ok();
    let spent = f64::from(2 * PRICE) / 100.0;
    for path in ["usage/ci", "usage/ci?cached=true"] {
        let usage = mount.read(path).await.ok();
        assert_eq!(usage.field("spent_ever"), spent, "{path}");
        assert_eq!(usage.field("available"), 2.0 - spent, "{path}");
    }
    let usage = mount.read("usage/batch").await.ok();
    let told = ["spent_ever", "complete"].map(|field| usage.field(field).clone());
    assert_eq!(told, [json!(f64::from(PRICE) / 100.0), json!(true)]);
    let status = mount.read("status").await.ok();
    let attention = status.field("attention")["roles"].to_string();
    let told = "the role's budget is nearly spent: 0.02 of 2 US dollars";
    assert!(attention.contains(told), "{attention}");
    assert!(!attention.contains("batch"), "{attention}");
    let lease = mount.read("creds/ci").await.ok();
    revoke(mount.client(), &lease).await.ok();
    assert_eq!(mount.openrouter.hashes(), [lease.text("key_hash")]);
    mount.disable().await.ok();
    assert_eq!(mount.openrouter.hashes(), [""; 0]);
}

#[tokio::test]
async fn a_budget_is_refused_where_it_contradicts_a_limit() {
    let mount = Mount::new().await;
    let both = mount
        .write("roles/app", json!({"budget": 5, "limit": 1}))
        .await;
    both.refused(400, &["exclude each other"]);
    assert!(mount.openrouter.hashes().is_empty());
}
