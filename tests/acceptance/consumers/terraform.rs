//! What Terraform's Vault provider asks the server for `samples/terraform/main.tf`, with the policy that
//! the sample names. The provider itself is run by `samples/check terraform`, where it is to be had. The
//! requests are those that its version 5.11.0 makes with Terraform 1.11: a token for the run, then for each
//! resource a write and a read, a plan of reads, a change in place, and the deletions.

use std::collections::BTreeSet;
use std::fs;

use openrouter_simulator::NewGuardrail;
use serde_json::{Value, json};

use crate::harness::{Client, OpenRouter, PLUGIN_NAME, Reply, Vault, samples};

/// Or it would say nothing about main.tf.
#[test]
fn what_this_test_writes_is_what_main_tf_writes() {
    for (header, written) in [
        (
            "ephemeral \"vault_generic_endpoint\" \"connection\"",
            connection(),
        ),
        (
            "ephemeral \"vault_generic_endpoint\" \"team_a\"",
            team_connection(),
        ),
        ("resource \"vault_generic_endpoint\" \"app\"", app()),
        ("resource \"vault_generic_endpoint\" \"jobs\"", jobs()),
    ] {
        let names = written.as_object().unwrap().keys().cloned();
        assert_eq!(fields(header), names.collect(), "{header}");
    }
}

#[tokio::test]
async fn the_teams_policy_and_its_connection_are_made_for_each_other() {
    let site = Site::new().await;
    mount(&site.root, &site.openrouter).await;
    let policy = resource("vault_policy", "team_a");
    let team = site.holder_of(&policy).await;
    let path = "openrouter/roles/team-a-app";
    let role = |limit| json!({"connection": "team-a", "limit": limit});
    team.write(path, role(20)).await.ok();
    team.write(path, role(21))
        .await
        .refused(400, &["at most 20 US dollars"]);
    team.write(path, json!({"limit": 1}))
        .await
        .refused(403, &["permission denied"]);
}

#[tokio::test]
async fn the_samples_policy_is_enough_for_what_terraform_does() {
    let site = Site::new().await;
    let terraform = site.holder_of(&policy()).await;
    assert_eq!(site.refusals(&terraform).await, [""; 0]);
    let left = site.root.read("sys/mounts").await.ok();
    assert!(left.data().get("openrouter/").is_none(), "{left}");
    assert_eq!(site.openrouter.hashes(), [""; 0], "it has revoked the keys");
}

#[tokio::test]
async fn the_samples_policy_has_nothing_that_terraform_does_not_need() {
    let site = Site::new().await;
    let policy = policy();
    let rules: Vec<&str> = policy.split_inclusive("}\n").collect();
    assert!(rules.len() > 7, "{rules:?}");
    for left_out in rules.iter().filter(|rule| rule.contains("path ")) {
        let terraform = site.holder_of(&policy.replace(left_out, "")).await;
        let refusals = site.refusals(&terraform).await;
        assert!(!refusals.is_empty(), "it does without {left_out}");
        site.root.delete("sys/mounts/openrouter").await;
    }
}

#[tokio::test]
async fn a_second_plan_is_empty_and_only_null_clears_a_field() {
    let site = Site::new().await;
    mount(&site.root, &site.openrouter).await;
    let path = "openrouter/roles/app";
    site.root.write(path, app()).await.ok();
    // With `ignore_absent_fields` the provider compares what it has written, and nothing else.
    let read = site.root.read(path).await.ok();
    for (field, written) in app().as_object().unwrap() {
        assert_eq!(read.field(field), written, "{field}");
    }
    let mut fields = app();
    fields.as_object_mut().unwrap().remove("guardrail");
    site.root.write(path, fields.clone()).await.ok();
    assert_eq!(
        site.root.read(path).await.ok().field("guardrail"),
        GUARDRAIL
    );
    fields["guardrail"] = Value::Null;
    site.root.write(path, fields.clone()).await.ok();
    let read = site.root.read(path).await.ok();
    assert_eq!(read.field("guardrail"), &Value::Null);
    // That the connection does not allow.
    fields["limit_reset"] = Value::Null;
    fields["limit"] = Value::Null;
    site.root
        .write(path, fields)
        .await
        .refused(400, &["has no limit"]);
}

/// A server with the plugin in its catalog and nothing mounted, and an OpenRouter.
struct Site {
    _vault: Vault,
    root: Client,
    openrouter: OpenRouter,
}

impl Site {
    async fn new() -> Self {
        let vault = Vault::dev().await;
        let openrouter = OpenRouter::start().await;
        let account = openrouter.account();
        let team = account.add_named_workspace("Team", WORKSPACE).unwrap();
        account.add_guardrail(NewGuardrail {
            workspace_id: Some(team),
            ..NewGuardrail::named(GUARDRAIL)
        });
        Self {
            root: vault.client(),
            _vault: vault,
            openrouter,
        }
    }

    /// Somebody with this policy, besides what every token has.
    async fn holder_of(&self, policy: &str) -> Client {
        let path = "sys/policies/acl/terraform";
        self.root.write(path, json!({"policy": policy})).await.ok();
        let body = json!({"policies": ["terraform"]});
        child(&self.root, &self.root, body).await.expect("a token")
    }

    /// Applies, plans, applies a change and destroys, as the provider does; returns what was refused for
    /// want of a capability.
    async fn refusals(&self, holder: &Client) -> Vec<String> {
        let own = json!({
            "display_name": "terraform",
            "ttl": "1200s",
            "explicit_max_ttl": "1200s",
            "renewable": false,
        });
        let Some(terraform) = child(holder, holder, own).await else {
            return vec!["auth/token/create".to_owned()];
        };
        let mut replies = mount(&terraform, &self.openrouter).await;
        replies.extend(self.apply(&terraform).await);
        replies.extend(read_all(&terraform).await);
        let tuned = json!({"description": "OpenRouter API keys"});
        replies.push(terraform.write("sys/mounts/openrouter/tune", tuned).await);
        replies.extend(connect(&terraform, &self.openrouter).await);
        replies.extend(self.apply(&terraform).await);
        replies.extend(connect(&terraform, &self.openrouter).await);
        for path in [
            "sys/policies/acl/openrouter-team-a",
            "sys/policies/acl/openrouter-app",
            "openrouter/roles/jobs",
            "openrouter/roles/app",
            "sys/mounts/openrouter",
        ] {
            replies.push(terraform.delete(path).await);
        }
        replies.retain(|reply| reply.status() == 403);
        replies
            .iter()
            .map(|reply| reply.request().to_owned())
            .collect()
    }

    async fn apply(&self, terraform: &Client) -> Vec<Reply> {
        let rules =
            json!({"policy": "path \"openrouter/creds/app\" { capabilities = [\"read\"] }"});
        let team = json!({"policy": resource("vault_policy", "team_a")});
        vec![
            terraform.write("openrouter/roles/app", app()).await,
            terraform.write("openrouter/roles/jobs", jobs()).await,
            terraform
                .write("sys/policies/acl/openrouter-app", rules)
                .await,
            terraform
                .write("sys/policies/acl/openrouter-team-a", team)
                .await,
            terraform.read("openrouter/static-creds/app").await,
        ]
    }
}

/// A token that one client makes, for another server's side of it; nothing if it may not.
async fn child(maker: &Client, server: &Client, body: Value) -> Option<Client> {
    let reply = maker.write("auth/token/create", body).await;
    let token = reply.json()["auth"]["client_token"].as_str()?;
    Some(server.with_token(token))
}

/// Enables the engine and connects it.
async fn mount(terraform: &Client, openrouter: &OpenRouter) -> Vec<Reply> {
    let body = json!({"type": PLUGIN_NAME, "description": "OpenRouter"});
    let mut replies = vec![
        terraform.write("sys/mounts/openrouter", body).await,
        terraform.read("sys/mounts/openrouter").await,
    ];
    replies.extend(connect(terraform, openrouter).await);
    replies
}

/// The connections.
async fn connect(terraform: &Client, openrouter: &OpenRouter) -> Vec<Reply> {
    let mut replies = Vec::new();
    for (path, mut body) in [
        ("openrouter/config", connection()),
        ("openrouter/config/team-a", team_connection()),
    ] {
        body["management_key"] = json!(openrouter.management_key());
        body["api_url"] = json!(openrouter.base_url());
        replies.push(terraform.write(path, body).await);
    }
    replies
}

/// A plan.
async fn read_all(terraform: &Client) -> Vec<Reply> {
    let mut replies = Vec::new();
    for path in [
        "sys/mounts/openrouter",
        "sys/mounts/openrouter/tune",
        "openrouter/roles/app",
        "openrouter/roles/jobs",
        "sys/policies/acl/openrouter-app",
        "sys/policies/acl/openrouter-team-a",
        "openrouter/static-creds/app",
    ] {
        replies.push(terraform.read(path).await);
    }
    replies
}

/// The connections as main.tf writes them.
fn connection() -> Value {
    json!({
        "management_key": null,
        "api_url": null,
        "allowed_roles": ["app", "jobs"],
        "max_limit": 100,
        "max_key_lifetime": 90 * 24 * 60 * 60,
    })
}

fn team_connection() -> Value {
    json!({
        "management_key": null,
        "api_url": null,
        "allowed_roles": ["team-a-*"],
        "max_limit": 20,
        "max_key_lifetime": 90 * 24 * 60 * 60,
    })
}

/// The roles as main.tf writes them, with a guardrail and a workspace that [`Site::new`] has made.
fn app() -> Value {
    json!({
        "limit": 25,
        "limit_reset": "monthly",
        "rotation_period": 30 * 24 * 60 * 60,
        "rotation_grace_period": 24 * 60 * 60,
        "ttl": 60 * 60,
        "guardrail": GUARDRAIL,
        "workspace": WORKSPACE,
        "creator_user_id": null,
    })
}

fn jobs() -> Value {
    json!({
        "credential_type": "dynamic",
        "limit": 2,
        "max_leases": 50,
        "max_ttl": 24 * 60 * 60,
        "ttl": 60 * 60,
        "guardrail": GUARDRAIL,
        "workspace": WORKSPACE,
        "creator_user_id": null,
    })
}

const GUARDRAIL: &str = "strict";
const WORKSPACE: &str = "team";

fn policy() -> String {
    sample("policy.hcl")
}

fn sample(name: &str) -> String {
    let file = samples().join("terraform").join(name);
    fs::read_to_string(file).expect("the sample can be read")
}

/// A block of main.tf, from its first brace to its last.
fn block(header: &str) -> String {
    let text = sample("main.tf");
    let (_, rest) = text.split_once(&format!("{header} {{\n")).expect(header);
    let (block, _) = rest.split_once("\n}\n").expect("it has an end");
    block.to_owned()
}

/// What a policy of main.tf says, for a mount at `openrouter`.
fn resource(kind: &str, name: &str) -> String {
    let block = block(&format!("resource {kind:?} {name:?}"));
    let (_, policy) = block.split_once("<<-POLICY\n").expect("a policy");
    let (policy, _) = policy.split_once("POLICY").expect("its end");
    policy.replace("${vault_mount.openrouter.path}", "openrouter")
}

/// The names of the fields that a block of main.tf writes.
fn fields(header: &str) -> BTreeSet<String> {
    let block = block(header);
    let (_, json) = block.split_once("jsonencode({\n").expect("fields");
    let lines = json.lines().map(str::trim);
    let assignments = lines.filter(|line| !line.starts_with('#'));
    let names = assignments.filter_map(|line| line.split_once(" = "));
    names.map(|(name, _)| name.trim().to_owned()).collect()
}
