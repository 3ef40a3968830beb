//! Prometheus scrapes the engine with the configuration of `samples/prometheus`, and its rules work.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{
    Client, Directory, Mount, SOON, ServerProcess, eventually, free_address, runs, samples, skipped,
};

/// Whether both programs are on this machine.
fn is_here() -> bool {
    let here = runs("prometheus") && runs("promtool");
    if !here {
        skipped("Prometheus: there is no prometheus or no promtool");
    }
    here
}

fn promtool(arguments: &[&str]) {
    let folder = samples().join("prometheus");
    let mut promtool = Command::new("promtool");
    let output = promtool.args(arguments).current_dir(folder).output();
    let output = output.expect("promtool runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{arguments:?}: {said}");
}

#[test]
fn the_alert_rules_are_valid_and_fire_when_they_should() {
    if is_here() {
        promtool(&["check", "rules", "rules.yml"]);
        promtool(&["test", "rules", "rules-test.yml"]);
    }
}

/// Every name of a metric that a text mentions.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_part(c));
    words
        .filter(|word| word.starts_with("vault_openrouter_"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn prometheus_scrapes_the_engine_and_knows_every_metric_of_rules_and_dashboard() {
    if !is_here() {
        return;
    }
    let mount = busy().await;
    let directory = Directory::without_plugin();
    let folder = samples().join("prometheus");
    fs::write(directory.path("vault-token"), token(&mount, &folder).await).expect("a file");
    fs::copy(folder.join("rules.yml"), directory.path("rules.yml")).expect("a file");
    let server = mount.client().address().trim_start_matches("http://");
    let configuration = fs::read_to_string(folder.join("prometheus.yml")).expect("the sample");
    let configuration = configuration
        .replace("vault.example.com:8200", server)
        .replace("scheme: https", "scheme: http")
        .replace("scrape_interval: 30s", "scrape_interval: 1s")
        .replace("/v1/openrouter/", &format!("/v1/{}/", mount.path()));
    fs::write(directory.path("prometheus.yml"), configuration).expect("a file");
    let address = free_address();
    let mut prometheus = directory.command(Path::new("prometheus"));
    prometheus
        .arg("--config.file=prometheus.yml")
        .arg("--storage.tsdb.path=data")
        .arg(format!("--web.listen-address={address}"));
    let _prometheus = ServerProcess::start(prometheus, &directory.path("prometheus.log"));
    let http = Client::new(&format!("http://{address}/api"), "");
    let value = eventually("Prometheus has scraped", SOON, async || {
        let query = "query?query=vault_openrouter_keys%7Bkind%3D%22current%22%7D";
        let reply = http.try_read(query).await?;
        let result = reply.data()["result"][0].clone();
        result.is_object().then_some(result)
    });
    let value: Value = value.await;
    assert_eq!(value["metric"]["mount"], "openrouter");
    assert_eq!(value["value"][1], "1");
    let known = http.read("label/__name__/values").await.ok();
    let known: BTreeSet<&str> = known
        .data()
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for file in ["rules.yml", "dashboard.json"] {
        let text = fs::read_to_string(folder.join(file)).expect("the sample");
        let used = names(&text);
        assert!(used.len() > 5, "{used:?}");
        // Metrics that exist only after something was late, or was found, are absent here.
        let absent = [
            "vault_openrouter_overdue_since_timestamp_seconds",
            "vault_openrouter_drift_total",
        ];
        for name in used.iter().filter(|name| !absent.contains(&name.as_str())) {
            assert!(known.contains(name.as_str()), "{name} of {file}: {known:?}");
        }
    }
    let alerts = http.read("alerts").await.ok();
    let alerts = alerts.data()["alerts"].as_array().unwrap().clone();
    let firing: Vec<_> = alerts
        .iter()
        .filter(|alert| alert["state"] == "firing")
        .collect();
    let expiring = firing
        .iter()
        .all(|alert| alert["labels"]["alertname"] == "OpenRouterManagementKeyExpires");
    assert!(expiring, "{firing:?}");
}

/// A mount that has done some of everything.
async fn busy() -> Mount {
    let mount = Mount::new().await;
    let key = mount.openrouter.management_key().to_owned();
    let soon = "2099-01-01T00:00:00Z".parse().expect("a time");
    mount
        .openrouter
        .account()
        .set_management_key_expiry(&key, Some(soon))
        .expect("there is the key");
    mount.connect().await.ok();
    mount.role("app", json!({})).await;
    mount.read("creds/app").await.ok();
    mount.openrouter.fail();
    mount
        .write("rotate-role/app", json!({}))
        .await
        .refused(502, &[]);
    mount.openrouter.recover();
    let emergency = json!({"rotation_grace_period": 0});
    eventually("the role is rotated", SOON, async || {
        let reply = mount.write("rotate-role/app", emergency.clone()).await;
        (reply.status() == 200).then_some(())
    })
    .await;
    mount
        .openrouter
        .faults()
        .add(openrouter_simulator::Fault::status(500).on("DELETE", "/keys/*"));
    mount
        .write("rotate-role/app", emergency.clone())
        .await
        .refused(424, &[]);
    mount
}

/// A token that may read the metrics, by the sample's policy.
async fn token(mount: &Mount, folder: &Path) -> String {
    let policy = fs::read_to_string(folder.join("metrics-policy.hcl")).expect("the sample");
    let policy = policy.replace("openrouter/", &mount.at(""));
    let name = format!("{}-metrics", mount.path());
    let client = mount.client();
    let body = json!({"policy": policy});
    client
        .write(&format!("sys/policies/acl/{name}"), body)
        .await
        .ok();
    let request = json!({"policies": [name], "no_default_policy": true});
    let token = client.write("auth/token/create", request).await.ok();
    let token = token.json()["auth"]["client_token"]
        .as_str()
        .expect("a token")
        .to_owned();
    let scraper = client.with_token(&token);
    let reply = scraper.read(&mount.at("metrics")).await.ok();
    assert!(reply.body().ends_with("# EOF\n"), "{}", reply.body());
    scraper.read(&mount.at("status")).await.refused(403, &[]);
    token
}
