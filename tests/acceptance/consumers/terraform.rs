//! The requests of Terraform's Vault provider for `samples/terraform/main.tf`, with the policy that the
//! sample names. `samples/check terraform` runs the provider itself, where it is available. These are the
//! requests that its version 5.11.0 makes with Terraform 1.11: a token for the run, then for each resource a
//! write and a read, a plan of reads, a change in place, and the deletions.

use std::fs;

use openrouter_simulator::{MemberRole, NewGuardrail};
use serde_json::{Map, Value, json};

use crate::harness::{Client, OpenRouter, PLUGIN_NAME, Reply, Vault, samples};

#[tokio::test]
async fn the_teams_policy_and_its_connection_are_made_for_each_other() {
    let site = Site::new().await;
    site.mount(&site.root).await;
    let policy = site.policy_of("team_a");
    let team = site.holder_of(&policy).await;
    let path = "openrouter/roles/team-a-app";
    let role = |limit| {
        json!({
            "connection": "team-a",
            "workspace": site.variables["team_a_workspace"],
            "guardrail": site.variables["team_a_guardrail"],
            "limit": limit,
        })
    };
    team.write(path, role(20)).await.ok();
    team.write(path, role(21))
        .await
        .refused(400, &["at most 20 US dollars"]);
    for parameter in ["connection", "workspace", "guardrail"] {
        let mut left_out = role(20);
        left_out.as_object_mut().unwrap().remove(parameter);
        let mut cleared = role(20);
        cleared[parameter] = Value::Null;
        for body in [left_out, cleared] {
            team.write(path, body)
                .await
                .refused(403, &["permission denied"]);
        }
    }
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
    site.mount(&site.root).await;
    for reply in site.apply(&site.root).await {
        reply.ok();
    }
    // With `ignore_absent_fields` the provider compares only what it has written.
    for (path, role) in [
        ("openrouter/roles/app", "app"),
        ("openrouter/roles/jobs", "jobs"),
    ] {
        let read = site.root.read(path).await.ok();
        let written = site.role(role);
        for field in ["guardrail", "workspace", "creator_user_id"] {
            assert_eq!(written[field], site.variables[field], "{role}: {field}");
        }
        for (field, written) in written.as_object().unwrap() {
            assert_eq!(read.field(field), written, "{role}: {field}");
        }
    }
    let account = site.openrouter.account();
    let [key] = <[_; 1]>::try_from(account.keys()).expect("the key of app");
    let creator = site.variables["creator_user_id"].as_str();
    assert_eq!(key.creator_user_id.as_deref(), creator);
    let path = "openrouter/roles/app";
    let mut fields = site.role("app");
    let mut left_out = fields.clone();
    left_out.as_object_mut().unwrap().remove("guardrail");
    site.root.write(path, left_out).await.ok();
    let read = site.root.read(path).await.ok();
    assert_eq!(read.field("guardrail"), &fields["guardrail"]);
    fields["guardrail"] = Value::Null;
    site.root.write(path, fields.clone()).await.ok();
    let read = site.root.read(path).await.ok();
    assert_eq!(read.field("guardrail"), &Value::Null);
    // The connection does not allow that.
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
    /// The variables of main.tf. The fields of its blocks are read from that file.
    variables: Map<String, Value>,
}

impl Site {
    async fn new() -> Self {
        let vault = Vault::dev().await;
        let openrouter = OpenRouter::start().await;
        let account = openrouter.account();
        account.become_organization();
        let creator = account.add_member("app@example.com", MemberRole::Member);
        let mut variables = Map::new();
        for (value, name) in [
            (json!(openrouter.base_url()), "api_url"),
            (json!(openrouter.management_key()), "management_key"),
            (json!(openrouter.management_key()), "team_a_management_key"),
            (json!(creator.unwrap()), "creator_user_id"),
        ] {
            variables.insert(name.to_owned(), value);
        }
        for (slug, prefix) in [("app", ""), ("team-a", "team_a_")] {
            let guardrail = format!("Guardrail of {slug}");
            let workspace = account.add_named_workspace(slug, slug).unwrap();
            account.add_guardrail(NewGuardrail {
                workspace_id: Some(workspace),
                ..NewGuardrail::named(&guardrail)
            });
            variables.insert(format!("{prefix}workspace"), json!(slug));
            variables.insert(format!("{prefix}guardrail"), json!(guardrail));
        }
        Self {
            root: vault.client(),
            _vault: vault,
            openrouter,
            variables,
        }
    }

    /// A role in the form in which main.tf writes it.
    fn role(&self, name: &str) -> Value {
        self.fields(&format!("resource \"vault_generic_endpoint\" {name:?}"))
    }

    /// The fields that a block of main.tf writes.
    fn fields(&self, header: &str) -> Value {
        let block = block(header);
        let (_, json) = block.split_once("jsonencode({\n").expect("fields");
        let lines = json.lines().map(str::trim);
        let assignments = lines.filter(|line| !line.starts_with('#'));
        let fields = assignments.filter_map(|line| line.split_once(" = "));
        let fields: Map<String, Value> = fields
            .map(|(name, value)| (name.trim().to_owned(), self.evaluated(value)))
            .collect();
        assert!(fields.len() > 4, "{header}: {fields:?}");
        fields.into()
    }

    /// A value of main.tf: a variable, a product, or a literal that is the same in JSON.
    fn evaluated(&self, value: &str) -> Value {
        if let Some(name) = value.strip_prefix("var.") {
            return self.variables[name].clone();
        }
        let factors: Result<Vec<u64>, _> = value.split(" * ").map(str::parse).collect();
        match factors {
            Ok(factors) => factors.iter().product::<u64>().into(),
            Err(_) => serde_json::from_str(value).expect(value),
        }
    }

    /// A policy of main.tf, for a mount at `openrouter`.
    fn policy_of(&self, name: &str) -> String {
        let block = block(&format!("resource \"vault_policy\" {name:?}"));
        let (_, policy) = block.split_once("<<-POLICY\n").expect("a policy");
        let (policy, _) = policy.split_once("POLICY").expect("its end");
        let mut policy = policy.replace("${vault_mount.openrouter.path}", "openrouter");
        for (name, value) in &self.variables {
            let value = value.as_str().expect("a text");
            policy = policy.replace(&format!("${{var.{name}}}"), value);
        }
        assert!(!policy.contains("${"), "{policy}");
        policy
    }

    /// A client with this policy, in addition to the default policy.
    async fn holder_of(&self, policy: &str) -> Client {
        let path = "sys/policies/acl/terraform";
        self.root.write(path, json!({"policy": policy})).await.ok();
        let body = json!({"policies": ["terraform"]});
        child(&self.root, &self.root, body).await.expect("a token")
    }

    /// Applies, plans, applies a change and destroys, as the provider does. Returns what was rejected because
    /// of a missing capability.
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
        let mut replies = self.mount(&terraform).await;
        replies.extend(self.apply(&terraform).await);
        replies.extend(read_all(&terraform).await);
        let tuned = json!({"description": "OpenRouter API keys"});
        replies.push(terraform.write("sys/mounts/openrouter/tune", tuned).await);
        replies.extend(self.connect(&terraform).await);
        replies.extend(self.apply(&terraform).await);
        replies.extend(self.connect(&terraform).await);
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
        let policy = |name| json!({"policy": self.policy_of(name)});
        vec![
            terraform
                .write("openrouter/roles/app", self.role("app"))
                .await,
            terraform
                .write("openrouter/roles/jobs", self.role("jobs"))
                .await,
            terraform
                .write("sys/policies/acl/openrouter-app", policy("app"))
                .await,
            terraform
                .write("sys/policies/acl/openrouter-team-a", policy("team_a"))
                .await,
            terraform.read("openrouter/static-creds/app").await,
        ]
    }

    /// Enables the engine and connects it.
    async fn mount(&self, terraform: &Client) -> Vec<Reply> {
        let body = json!({"type": PLUGIN_NAME, "description": "OpenRouter"});
        let mut replies = vec![
            terraform.write("sys/mounts/openrouter", body).await,
            terraform.read("sys/mounts/openrouter").await,
        ];
        replies.extend(self.connect(terraform).await);
        replies
    }

    /// The connections.
    async fn connect(&self, terraform: &Client) -> Vec<Reply> {
        let mut replies = Vec::new();
        for (path, name) in [
            ("openrouter/config", "connection"),
            ("openrouter/config/team-a", "team_a"),
        ] {
            let block = format!("ephemeral \"vault_generic_endpoint\" {name:?}");
            replies.push(terraform.write(path, self.fields(&block)).await);
        }
        replies
    }
}

/// A child token that one client creates for another server's side of it; `None` if it may not.
async fn child(maker: &Client, server: &Client, body: Value) -> Option<Client> {
    let reply = maker.write("auth/token/create", body).await;
    let token = reply.json()["auth"]["client_token"].as_str()?;
    Some(server.with_token(token))
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
