//! Jobs of GitHub Actions and GitLab CI, as in `samples/ci/`. They log in with an ID token of the test's own
//! issuer, on a server with the real JWT auth method. GitLab's scripts are run unchanged. `vault-action` is
//! not available here, so the test makes its requests.

pub(super) mod issuer;
mod shell;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use serde_json::json;

use crate::harness::{
    Client, Directory, OpenRouter, PLUGIN_NAME, Reply, SOON, Vault, eventually, output_of, runs,
    samples, skipped,
};
use issuer::Issuer;

const AUDIENCE: &str = "https://vault.example.com";
const SUBJECT: &str = "project_path:my-group/my-project:ref_type:branch:ref:main";

#[tokio::test]
async fn a_gitlab_jobs_key_is_gone_after_the_job_whether_it_succeeded_or_not() {
    if !can_run_scripts() {
        return;
    }
    let site = Site::new().await;
    for status in [0, 1] {
        let job = GitLabJob::new(&site, &format!("exit {status}"));
        let output = job.run(&["before_script", "script"]).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{said}");
        let key = fs::read_to_string(job.directory.path("project/used")).expect("a key");
        assert!(site.openrouter.accepts(&key).await, "{said}");
        job.ends_with_everything(&site).await;
    }
}

#[tokio::test]
async fn a_gitlab_job_that_got_no_key_leaves_no_token() {
    if !can_run_scripts() {
        return;
    }
    let site = Site::new().await;
    site.root.delete("openrouter/roles/jobs").await.ok();
    let job = GitLabJob::new(&site, "exit 0");
    let output = job.run(&["before_script", "script"]).await;
    assert!(!output.status.success());
    assert!(
        !job.directory.path("project/used").exists(),
        "the job went on"
    );
    job.ends_with_everything(&site).await;
}

#[tokio::test]
async fn a_github_jobs_key_is_gone_after_its_last_step() {
    if !can_run_scripts() {
        return;
    }
    let site = Site::new().await;
    let sample = sample("github-actions.yml");
    // What vault-action does with the fields of `with`.
    let audience = shell::value(&sample, "jwtGithubAudience");
    let body = json!({
        "role": shell::value(&sample, "role"),
        "jwt": site.issuer.token(SUBJECT, &audience),
    });
    let method = shell::value(&sample, "method");
    let login = format!("auth/{method}/login");
    let reply = site.nobody().write(&login, body).await.ok();
    let job = site.root.with_token(token_of(&reply));
    let wanted = sample
        .lines()
        .find_map(|line| line.trim().strip_suffix("| OPENROUTER_API_KEY"))
        .expect("what is to be read");
    let (path, field) = wanted.trim().split_once(' ').expect("a path and a field");
    let key = job.read(path).await.ok().text(field);
    assert!(site.openrouter.accepts(&key).await);

    let directory = Directory::without_plugin();
    let last = shell::step(&sample, "Revoke the key");
    let environment = [("VAULT_ADDR", job.address()), ("VAULT_TOKEN", job.token())];
    let output = run(&directory, directory.path("."), &last, &environment).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    site.knows_nothing_of(&job).await;
}

#[tokio::test]
async fn a_job_of_another_repository_or_of_another_issuer_is_refused() {
    let site = Site::new().await;
    let elsewhere = Issuer::start().await;
    let other = "project_path:my-group/fork:ref_type:branch:ref:main";
    for (token, why) in [
        (site.issuer.token(other, AUDIENCE), "sub"),
        (site.issuer.token(SUBJECT, "https://elsewhere"), "aud"),
        (
            elsewhere.token_in_the_name_of(&site.issuer, SUBJECT, AUDIENCE),
            "signature",
        ),
    ] {
        let body = json!({"role": "openrouter-jobs", "jwt": token});
        let reply = site.nobody().write("auth/jwt/login", body).await;
        reply.refused(400, &[why]);
    }
}

#[tokio::test]
async fn a_job_may_read_keys_for_jobs_and_nothing_else() {
    let site = Site::new().await;
    let body = json!({"role": "openrouter-jobs", "jwt": site.issuer.token(SUBJECT, AUDIENCE)});
    let reply = site.nobody().write("auth/jwt/login", body).await.ok();
    let job = site.root.with_token(token_of(&reply));
    job.read("openrouter/creds/jobs").await.ok();
    for path in [
        "openrouter/creds/app",
        "openrouter/roles/jobs",
        "openrouter/config",
    ] {
        let reply = job.read(path).await;
        reply.refused(403, &["permission denied"]);
    }
}

/// A server that `samples/ci/vault-setup` has configured for the issuer's jobs.
struct Site {
    _vault: Vault,
    root: Client,
    openrouter: OpenRouter,
    issuer: Issuer,
}

impl Site {
    async fn new() -> Self {
        let vault = Vault::dev().await;
        let site = Self {
            root: vault.client(),
            _vault: vault,
            openrouter: OpenRouter::start().await,
            issuer: Issuer::start().await,
        };
        let root = &site.root;
        let body = json!({"type": PLUGIN_NAME});
        root.write("sys/mounts/openrouter", body).await.ok();
        let body = json!({
            "management_key": site.openrouter.management_key(),
            "api_url": site.openrouter.base_url(),
        });
        root.write("openrouter/config", body).await.ok();
        let role =
            json!({"credential_type": "dynamic", "limit": 2, "max_leases": 50, "ttl": "40m"});
        root.write("openrouter/roles/jobs", role).await.ok();
        let setup = samples().join("ci/vault-setup");
        let arguments = [site.issuer.url(), SUBJECT.to_owned(), AUDIENCE.to_owned()];
        let output = output_of(&setup, &arguments.each_ref().map(String::as_str), root).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        site
    }

    fn nobody(&self) -> Client {
        self.root.with_token("")
    }

    /// Waits until the job's token and every key are gone.
    async fn knows_nothing_of(&self, job: &Client) {
        let token = job.read("auth/token/lookup-self").await;
        token.refused(403, &[]);
        // The server revokes the leases of a token after it has answered.
        let gone = async || self.openrouter.hashes().is_empty().then_some(());
        eventually("the job's keys are gone", SOON, gone).await;
    }
}

/// A job of `samples/ci/gitlab-ci.yml`, in its own directory.
struct GitLabJob {
    directory: Directory,
    environment: Vec<(&'static str, String)>,
}

impl GitLabJob {
    /// A job whose own work is to use its key and then to run `end`.
    fn new(site: &Site, end: &str) -> Self {
        let directory = Directory::without_plugin();
        let project = directory.path("project");
        fs::create_dir(&project).expect("a directory");
        let program = project.join("evaluate");
        let work = format!("#!/bin/sh\nprintf %s \"$OPENROUTER_API_KEY\" >used\n{end}\n");
        fs::write(&program, work).expect("a script");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).expect("an executable");
        let environment = vec![
            ("CI_PROJECT_DIR", project.display().to_string()),
            ("VAULT_ADDR", site.root.address().to_owned()),
            ("VAULT_ID_TOKEN", site.issuer.token(SUBJECT, AUDIENCE)),
        ];
        Self {
            directory,
            environment,
        }
    }

    /// Runs these parts of the job in one shell, which exits with the first failing command.
    async fn run(&self, parts: &[&str]) -> Output {
        let sample = sample("gitlab-ci.yml");
        let script: String = parts
            .iter()
            .map(|part| shell::script(&sample, part))
            .collect();
        let environment: Vec<(&str, &str)> = self
            .environment
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let project = self.directory.path("project");
        run(&self.directory, project, &script, &environment).await
    }

    /// Runs what GitLab runs at the end of every job, and asserts that nothing is left behind.
    async fn ends_with_everything(&self, site: &Site) {
        let file = self.directory.path("project.tmp/vault-token");
        let mode = fs::metadata(&file).expect("a token").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let token = fs::read_to_string(&file).expect("a token");
        let output = self.run(&["after_script"]).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(!file.exists());
        site.knows_nothing_of(&site.root.with_token(token.trim()))
            .await;
    }
}

async fn run(
    directory: &Directory,
    folder: impl AsRef<Path>,
    script: &str,
    environment: &[(&str, &str)],
) -> Output {
    let mut command = directory.command(Path::new("bash"));
    // Called as the runners of both systems call it.
    command
        .args(["-e", "-o", "pipefail", "-c", script])
        .envs(environment.iter().copied())
        .current_dir(folder);
    let output = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .output()
        .await;
    output.expect("bash can be started")
}

fn can_run_scripts() -> bool {
    let missing = ["bash", "curl", "jq"].into_iter().find(|name| !runs(name));
    if let Some(name) = missing {
        skipped(&format!("the scripts of samples/ci: there is no {name}"));
    }
    missing.is_none()
}

fn token_of(login: &Reply) -> &str {
    let token = login.json()["auth"]["client_token"].as_str();
    token.expect("a token")
}

fn sample(name: &str) -> String {
    fs::read_to_string(samples().join("ci").join(name)).expect("the sample can be read")
}
