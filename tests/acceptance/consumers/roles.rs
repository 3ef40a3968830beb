//! The Job of `samples/kubernetes/roles.yaml`, which writes roles from a ConfigMap. Its script is run with
//! its files, after the commands at the beginning of the manifest. A service account's token is a JWT, and
//! the JWT method replaces the Kubernetes method: a login has the same path and parameters.

use std::fs;
use std::path::Path;
use std::process::Output;

use openrouter_simulator::{MemberRole, NewGuardrail};
use serde_json::{Value, json};

use super::ci::issuer::Issuer;
use crate::harness::{Client, Directory, OpenRouter, PLUGIN_NAME, Vault, output_in, samples};

const SERVICE_ACCOUNT: &str = "system:serviceaccount:apps:openrouter-roles";
const AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";
const ROLE: &str = "openrouter/roles/team-a-app";

#[tokio::test]
async fn a_job_writes_the_roles_of_its_config_map_and_nothing_beyond_what_it_was_given() {
    let site = Site::new().await;
    let account = site.openrouter.account();
    let role = site.role();
    let done = site.job(&role).await;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{said}");
    let written = site.root.read(ROLE).await.ok();
    for (field, value) in role.as_object().unwrap() {
        assert_eq!(written.field(field), value, "{field}");
    }
    let [key] = <[_; 1]>::try_from(account.keys()).expect("the role's key");
    let workspace = account.workspace("team-a").unwrap().id;
    assert_eq!(key.workspace_id, workspace);
    assert_eq!(
        key.creator_user_id.as_deref(),
        role["creator_user_id"].as_str()
    );
    let guardrail = account.guardrail_of(&key.hash);
    assert_eq!(
        guardrail.as_deref(),
        Some(written.text("guardrail_id").as_str())
    );

    for (field, value, why) in [
        ("guardrail", json!(""), "permission denied"),
        ("workspace", Value::Null, "permission denied"),
        ("connection", json!("default"), "permission denied"),
        ("limit", json!(101), "at most 100 US dollars"),
    ] {
        let mut other = role.clone();
        other[field] = value;
        let refused = site.job(&other).await;
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(
            !refused.status.success() && said.contains(why),
            "{field}: {said}"
        );
    }
    assert_eq!(site.root.read(ROLE).await.ok().data(), written.data());
}

/// A server that the Job may log in to, and the objects at OpenRouter that its roles refer to.
struct Site {
    _vault: Vault,
    root: Client,
    openrouter: OpenRouter,
    issuer: Issuer,
    manifest: String,
}

impl Site {
    async fn new() -> Self {
        let vault = Vault::dev().await;
        let openrouter = OpenRouter::start().await;
        let account = openrouter.account();
        account.become_organization();
        let creator = account.add_member("app@example.com", MemberRole::Member);
        let manifest = samples().join("kubernetes/roles.yaml");
        let manifest = fs::read_to_string(manifest).expect("the sample can be read");
        assert!(manifest.contains("user_2dHF4q"));
        let workspace = account.add_named_workspace("Team A", "team-a");
        let site = Self {
            root: vault.client(),
            _vault: vault,
            openrouter,
            issuer: Issuer::start().await,
            manifest: manifest.replace("user_2dHF4q", &creator.unwrap()),
        };
        let guardrail = site.role()["guardrail"].as_str().unwrap().to_owned();
        site.openrouter.account().add_guardrail(NewGuardrail {
            workspace_id: Some(workspace.unwrap()),
            ..NewGuardrail::named(&guardrail)
        });
        let body = json!({"type": PLUGIN_NAME});
        site.root.write("sys/mounts/openrouter", body).await.ok();
        site.prepare().await;
        site
    }

    /// Runs the commands at the beginning of the manifest, with another auth method.
    async fn prepare(&self) {
        let head = self
            .manifest
            .lines()
            .filter_map(|line| line.strip_prefix("#   "));
        let (login, others): (Vec<&str>, Vec<&str>) = head
            .partition(|command| command.starts_with("vault write auth/kubernetes/role/team-a "));
        let [login] = login[..] else {
            panic!("{login:?}")
        };
        assert!(login.contains(" bound_service_account_names=openrouter-roles "));
        assert!(login.contains(" bound_service_account_namespaces=apps "));
        assert!(login.contains(" token_policies=team-a "));
        let url = format!("management_key=- api_url={} ", self.openrouter.base_url());
        let script = others.join("\n").replace("management_key=- ", &url);
        let script = script.replace("samples/", &format!("{}/", samples().display()));
        let directory = Directory::without_plugin();
        let key = self.openrouter.management_key();
        fs::write(directory.path("management-key.txt"), key).expect("a file");
        let done = shell(&directory, &script, &self.root).await;
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{said}");

        let body = json!({"type": "jwt"});
        self.root.write("sys/auth/kubernetes", body).await.ok();
        let url = self.issuer.url();
        let body = json!({"oidc_discovery_url": url, "bound_issuer": url});
        self.root.write("auth/kubernetes/config", body).await.ok();
        let body = json!({
            "role_type": "jwt", "user_claim": "sub", "bound_subject": SERVICE_ACCOUNT,
            "bound_audiences": AUDIENCE, "token_policies": "team-a", "token_ttl": "5m",
        });
        let path = "auth/kubernetes/role/team-a";
        self.root.write(path, body).await.ok();
    }

    /// The role in the ConfigMap.
    fn role(&self) -> Value {
        let (_, rest) = self
            .manifest
            .split_once("\n  team-a-app.json: |\n")
            .expect("a file");
        serde_json::from_str(&indented(rest, 4)).expect("a role")
    }

    /// Runs the Job with this role in the ConfigMap.
    async fn job(&self, role: &Value) -> Output {
        let (_, rest) = self
            .manifest
            .split_once("args:\n            - |\n")
            .expect("a script");
        let directory = Directory::without_plugin();
        let (token, roles) = (directory.path("token"), directory.path("roles"));
        fs::create_dir(&roles).expect("a folder");
        fs::write(roles.join("team-a-app.json"), role.to_string()).expect("a file");
        let jwt = self.issuer.token(SERVICE_ACCOUNT, AUDIENCE);
        fs::write(&token, jwt).expect("a file");
        let script = indented(rest, 14);
        let script = script.replace(
            "/var/run/secrets/kubernetes.io/serviceaccount/token",
            &token.display().to_string(),
        );
        let script = script.replace(" /roles/", &format!(" {}/", roles.display()));
        shell(&directory, &script, &self.root.with_token("")).await
    }
}

/// The lines up to the first one with less indentation, without the indentation.
fn indented(text: &str, by: usize) -> String {
    let indentation = " ".repeat(by);
    let lines = text
        .lines()
        .map_while(|line| line.strip_prefix(&indentation));
    let lines: Vec<&str> = lines.collect();
    assert!(lines.len() > 3, "{lines:?}");
    lines.join("\n")
}

async fn shell(directory: &Directory, script: &str, client: &Client) -> Output {
    let folder = directory.path(".").display().to_string();
    let script = format!("cd {folder}\n{script}");
    output_in(directory, Path::new("sh"), &["-euc", &script], client).await
}
