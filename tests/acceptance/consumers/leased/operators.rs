//! What the Kubernetes operators and Spring read from the response of a dynamic role, and when. They are not
//! run here. The manifests are in `samples/kubernetes/`.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{dynamic, each_key_was_renewed_to_its_end, no_key_is_left, replaced_with_time_left};
use crate::consumers::application::Tally;
use crate::harness::{Client, Mount, Reply, SOON, eventually, samples};

#[tokio::test]
async fn a_reply_is_that_of_a_renewable_lease_and_not_of_a_rotated_secret() {
    let mount = dynamic(json!({"ttl": "20m"})).await;
    let reply = mount.read("creds/app").await.ok();
    assert!(reply.lease_id().starts_with(&mount.at("creds/app/")));
    assert_eq!((reply.lease_duration(), reply.renewable()), (1_200, true));
    let json = reply.json();
    assert_eq!(
        (&json["wrap_info"], &json["auth"]),
        (&Value::Null, &Value::Null)
    );
    // With these fields, VSO's `allowStaticCreds` and Agent would follow a rotation that does not exist.
    for field in ["last_vault_rotation", "rotation_period", "ttl"] {
        assert!(!reply.fields().contains(&field), "{reply}");
    }
}

#[tokio::test]
async fn every_value_becomes_an_entry_of_a_kubernetes_secret() {
    let limited = json!({"limit": 2.5, "limit_reset": "daily"});
    for fields in [json!({}), limited] {
        let mount = dynamic(fields).await;
        let reply = mount.read("creds/app").await.ok();
        for (name, value) in reply.data().as_object().unwrap() {
            // Both operators accept numbers and null, and convert other values that are not scalars to JSON.
            let scalar = value.is_string() || value.is_number() || value.is_null();
            assert!(scalar, "{name}: {value}");
            assert!(!["data", "_raw"].contains(&name.as_str()), "{name}");
        }
    }
}

#[tokio::test]
async fn an_operator_that_renews_by_percentage_never_holds_a_dead_key() {
    // The first renewal, after about 29 seconds, is cut to the remaining 15.
    let mount = dynamic(replaced_with_time_left()).await;
    let mut held: Option<Held> = None;
    let current = async || {
        held = Some(match held.take() {
            Some(held) if Instant::now() < held.due => held,
            Some(held) => held.renewed(&mount).await,
            None => Held::read(&mount).await,
        });
        held.as_ref().map(|held| held.reply.text("api_key"))
    };
    let used = Tally::until_keys_are_dead(&mount, 1, current).await;
    used.is_flawless();
    each_key_was_renewed_to_its_end(&mount, &used.keys);
}

#[tokio::test]
async fn a_key_does_not_outlive_the_token_that_read_it() {
    // ESO logs in for each read and then discards the token. The token of VSO's client has a maximum
    // lifetime.
    let mount = dynamic(json!({})).await;
    let body = json!({"ttl": "20s"});
    let reply = mount.client().write("auth/token/create", body).await.ok();
    let token = reply.json()["auth"]["client_token"].as_str();
    let client = mount.client().with_token(token.expect("a token"));
    let reply = client.read(&mount.at("creds/app")).await.ok();
    // The response does not show that: it reports a lease of an hour.
    assert_eq!(reply.lease_duration(), 3_600);
    no_key_is_left(&mount).await;
}

/// ESO often reads twice at a refresh, 50 to 90 ms apart, and uses the second key.
#[tokio::test]
async fn two_reads_at_one_refresh_need_two_leases() {
    for (max_leases, second) in [(1, 429), (2, 200)] {
        let mount = dynamic(json!({"max_leases": max_leases})).await;
        let first = mount.read("creds/app").await.ok();
        tokio::time::sleep(Duration::from_millis(60)).await;
        let reply = mount.read("creds/app").await;
        assert_eq!(reply.status(), second, "{reply}");
        // Whatever happens to the second read, the first key still works.
        assert!(mount.openrouter.accepts(&first.text("api_key")).await);
        assert_eq!(mount.openrouter.hashes().len(), max_leases);
    }
}

/// VSO renews its token. A token with a maximum lifetime still ends, and its keys with it.
#[tokio::test]
async fn a_token_with_a_period_keeps_its_key_and_one_with_a_longest_life_loses_it() {
    let mount = dynamic(json!({})).await;
    let limited = operator(&mount, json!({"ttl": "8s", "explicit_max_ttl": "12s"})).await;
    let periodic = operator(&mount, json!({"period": "8s"})).await;
    let limited_key = limited.read(&mount.at("creds/app")).await.ok();
    let periodic_key = periodic.read(&mount.at("creds/app")).await.ok();
    let dies = eventually("the token of limited life ends", SOON, async || {
        for client in [&limited, &periodic] {
            client.write("auth/token/renew-self", json!({})).await;
        }
        let works = mount.openrouter.accepts(&limited_key.text("api_key")).await;
        (!works).then_some(())
    });
    dies.await;
    // By now the token has been renewed past its first period.
    assert!(
        mount
            .openrouter
            .accepts(&periodic_key.text("api_key"))
            .await
    );
    let token = periodic.read("auth/token/lookup-self").await.ok();
    assert_eq!(token.integer("explicit_max_ttl"), 0);
}

#[tokio::test]
async fn the_samples_policy_is_enough_for_what_the_operators_do() {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let role = json!({"credential_type": "dynamic"});
    mount.role("jobs", role).await;
    let operator = holder_of_the_samples_policy(&mount).await;
    for manifests in [
        "vault-secrets-operator",
        "external-secrets-operator",
        "agent-injector",
    ] {
        for path in paths_of(manifests) {
            operator.read(&mount.at(&path)).await.ok();
        }
    }
    // Both are VSO's. It makes the second because of `revoke: true`.
    let reply = operator.read(&mount.at("creds/jobs")).await.ok();
    let lease = json!({"lease_id": reply.lease_id(), "sync": true});
    operator.write("sys/leases/renew", lease.clone()).await.ok();
    operator.write("sys/leases/revoke", lease).await.ok();
    assert!(!mount.openrouter.accepts(&reply.text("api_key")).await);
}

/// A client with a token with these terms that may read `creds/app`.
async fn operator(mount: &Mount, mut terms: Value) -> Client {
    let root = mount.client();
    let name = format!("operator-of-{}", mount.path());
    let policy = format!(
        "path \"{}\" {{ capabilities = [\"read\"] }}",
        mount.at("creds/app")
    );
    let path = format!("sys/policies/acl/{name}");
    root.write(&path, json!({"policy": policy})).await.ok();
    terms["policies"] = json!([name]);
    let reply = root.write("auth/token/create", terms).await.ok();
    let token = reply.json()["auth"]["client_token"].as_str();
    root.with_token(token.expect("a token"))
}

/// The lease that VSO holds for a resource with `renewalPercent: 67`.
struct Held {
    reply: Reply,
    due: Instant,
}

impl Held {
    async fn read(mount: &Mount) -> Self {
        let reply = mount.read("creds/app").await.ok();
        let due = Self::due(&reply);
        Self { reply, due }
    }

    /// Asks for the same duration again, and reads again if it gets less.
    async fn renewed(self, mount: &Mount) -> Self {
        let duration = self.reply.lease_duration();
        let lease = json!({"lease_id": self.reply.lease_id(), "increment": duration});
        let renewal = mount.client().write("sys/leases/renew", lease).await.ok();
        if renewal.lease_duration() < duration {
            return Self::read(mount).await;
        }
        assert_eq!(renewal.lease_id(), self.reply.lease_id());
        let due = Self::due(&renewal);
        Self { due, ..self }
    }

    fn due(lease: &Reply) -> Instant {
        let duration = u64::try_from(lease.lease_duration()).unwrap();
        // VSO adds up to a tenth to the 67 percent.
        Instant::now() + Duration::from_secs(duration) * 72 / 100
    }
}

/// A client with `samples/kubernetes/vault-policy.hcl` and the default policy.
async fn holder_of_the_samples_policy(mount: &Mount) -> Client {
    let root = mount.client();
    let name = format!("operators-of-{}", mount.path());
    let policy = sample("vault-policy.hcl").replace("openrouter/", &mount.at(""));
    let path = format!("sys/policies/acl/{name}");
    root.write(&path, json!({"policy": policy})).await.ok();
    let body = json!({"policies": [name]});
    let reply = root.write("auth/token/create", body).await.ok();
    let token = reply.json()["auth"]["client_token"].as_str();
    root.with_token(token.expect("a token"))
}

/// The paths that the manifests read, relative to the mount.
fn paths_of(manifests: &str) -> Vec<String> {
    let text = sample(&format!("{manifests}.yaml"));
    let paths: Vec<String> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(|line| line.split([' ', '"']))
        .map(|word| word.trim_start_matches("openrouter/").to_owned())
        .filter(|word| word.starts_with("creds/") || word.starts_with("static-creds/"))
        .collect();
    assert!(!paths.is_empty(), "{manifests} reads nothing");
    paths
}

fn sample(name: &str) -> String {
    fs::read_to_string(samples().join("kubernetes").join(name)).expect("the sample can be read")
}
