//! Runs the commands of the documentation literally on a real server with Raft storage: each page from its
//! first shell block to its last, in one shell. A comment before a block says that it fails, and how, or why
//! it is not run.

#[expect(dead_code, reason = "tests/documentation uses all of it")]
#[path = "../support/pages.rs"]
mod pages;

use std::fs;
use std::path::Path;
use std::process::Command;

use openrouter_simulator::{NewGuardrail, NewKey};
use serde_json::json;

use crate::harness::{Directory, OpenRouter, PLUGIN_NAME, RaftVault, output_in, runs, skipped};
use pages::{Page, RUN};

#[tokio::test]
async fn the_commands_of_the_readme_run() {
    run("README.md", Plugin::ToBeInstalled, "").await;
}

#[tokio::test]
async fn the_commands_that_install_and_upgrade_run() {
    run("docs/install.md", Plugin::ToBeInstalled, "").await;
}

#[tokio::test]
async fn the_commands_of_an_operator_run() {
    run("docs/operations.md", Plugin::Enabled, "").await;
}

#[tokio::test]
async fn the_commands_about_budgets_run() {
    run("docs/budgets.md", Plugin::Enabled, "").await;
}

#[tokio::test]
async fn the_commands_that_restrict_roles_and_keys_run() {
    run("docs/restrictions.md", Plugin::Enabled, "").await;
}

#[tokio::test]
async fn the_commands_of_a_custodian_run() {
    run("docs/custody.md", Plugin::Enabled, "").await;
}

#[tokio::test]
async fn the_commands_that_watch_the_engine_run() {
    run("docs/monitoring.md", Plugin::Enabled, "").await;
}

#[tokio::test]
async fn the_commands_that_find_trouble_and_end_it_run() {
    run("docs/troubleshooting.md", Plugin::Enabled, "").await;
}

#[tokio::test]
async fn the_commands_of_a_consumer_run() {
    let roles = "vault write openrouter/config management_key=- < management-key.txt\n\
                 vault write openrouter/roles/app limit=5\n\
                 vault write openrouter/roles/ci credential_type=dynamic\n";
    run("docs/consumers.md", Plugin::Enabled, roles).await;
}

/// The state at the beginning of a page.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plugin {
    /// The server does not know the plugin.
    ToBeInstalled,
    /// It is enabled at `openrouter`.
    Enabled,
}

async fn run(name: &str, plugin: Plugin, before: &str) {
    for program in ["bash", "curl", "jq"] {
        if !runs(program) {
            skipped(&format!("the commands of {name}: there is no {program}"));
            return;
        }
    }
    assert!(RUN.contains(&name));
    let vault = RaftVault::new().await;
    let openrouter = OpenRouter::start().await;
    let directory = Directory::without_plugin();
    prepare(&vault, plugin).await;
    let page = Page::read(name);
    furnish(&directory, &openrouter, &page);
    furnish_dashboard(&openrouter);
    let script = here(&page.script(before), &vault, &openrouter);
    let bash = ["-c", &script];
    let output = output_in(&directory, Path::new("bash"), &bash, &vault.client()).await;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{name}: {said}");
}

/// Brings the server to the state at the beginning of the page.
async fn prepare(vault: &RaftVault, plugin: Plugin) {
    let client = vault.client();
    let catalog = format!("sys/plugins/catalog/secret/{PLUGIN_NAME}");
    match plugin {
        Plugin::ToBeInstalled => {
            client.delete(&catalog).await.ok();
            vault.node().remove_plugin();
        }
        Plugin::Enabled => {
            let mount = json!({"type": PLUGIN_NAME});
            client.write("sys/mounts/openrouter", mount).await.ok();
        }
    }
}

/// The files that a reader of the pages has: management keys of one account, the sample for Vault Agent, the
/// plugin, and two releases of it.
fn furnish(directory: &Directory, openrouter: &OpenRouter, page: &Page) {
    let write = |name: &str, text: &str| {
        fs::write(directory.path(name), text).expect("a file can be written");
    };
    // With a line end, as an editor writes it.
    write(
        "management-key.txt",
        &format!("{}\n", openrouter.management_key()),
    );
    write(
        "new-management-key.txt",
        &format!("{}\n", openrouter.account().add_management_key()),
    );
    let by_hand = NewKey::named("chatbot");
    let by_hand = openrouter.account().create_key(by_hand);
    write("chatbot-key.txt", &format!("{}\n", by_hand.secret()));
    let agent = "samples/agent/agent.hcl";
    fs::create_dir_all(directory.path("samples/agent")).expect("a folder");
    fs::copy(pages::root().join(agent), directory.path(agent)).expect("a sample");
    fs::create_dir(directory.path("plugins")).expect("a folder");
    directory.add_plugin(PLUGIN_NAME);
    fs::rename(
        directory.path("plugins").join(PLUGIN_NAME),
        directory.path(PLUGIN_NAME),
    )
    .expect("it can be moved");
    if !page.text.contains(".tar.gz") {
        return;
    }
    for version in [env!("CARGO_PKG_VERSION"), "0.2.0"] {
        let release = format!("{PLUGIN_NAME}_{version}_linux_amd64");
        directory.replace_plugin(PLUGIN_NAME, version);
        fs::rename(directory.path("plugins"), directory.path(&release)).expect("it can be moved");
        fs::create_dir(directory.path("plugins")).expect("a folder");
        let pack = format!(
            "tar cf - {release} | gzip -1 >{release}.tar.gz && rm -r {release} && \
             sha256sum {release}.tar.gz >>SHA256SUMS"
        );
        let mut shell = directory.command(Path::new("sh"));
        let packed = Command::args(&mut shell, ["-c", &pack]).status();
        assert!(packed.expect("sh").success(), "{release} can be packed");
    }
}

/// What a reader of the pages has created in OpenRouter's dashboard.
fn furnish_dashboard(openrouter: &OpenRouter) {
    let account = openrouter.account();
    let team = account.add_named_workspace("Team A", "team-a");
    account.add_guardrail(NewGuardrail {
        workspace_id: Some(team.expect("a free slug")),
        ..NewGuardrail::named("No training, EU only")
    });
}

/// Adapts commands that are written for the reader's own server and OpenRouter to those of this test.
fn here(script: &str, vault: &RaftVault, openrouter: &OpenRouter) -> String {
    let plugins = vault.node().path("plugins").display().to_string();
    let connected = |line: &str| {
        let writes = line.contains("vault write openrouter/config") && !line.contains("api_url=");
        let to = format!(" api_url={} management_key=", openrouter.base_url());
        match writes {
            true => line.replace(" management_key=", &to),
            false => line.to_owned(),
        }
    };
    let lines: Vec<String> = script.lines().map(connected).collect();
    lines.join("\n").replace("/etc/vault.d/plugins", &plugins)
}
