//! The runbook in the simulator's README, "Rehearse an outage": runs its commands literally on a real server,
//! against a simulated OpenRouter that they control over HTTP.

use std::fs;
use std::path::Path;

use crate::harness::{Mount, output_of, runs, skipped};

#[tokio::test]
async fn each_command_of_the_runbook_does_what_it_says() {
    if !runs("curl") {
        skipped("the runbook of tests/simulator/README.md: curl is not installed");
        return;
    }
    let mount = Mount::unconfigured().await;
    let mut variables = String::new();
    let mut outages = 0;
    for line in runbook() {
        if is_assignment(&line) {
            variables.push_str(&format!("{}\n", here(&line, &mount)));
            continue;
        }
        if line.contains("-X DELETE") {
            outages += 1;
            // An outage that no request has met shows nothing.
            let script = mount.openrouter.faults().list();
            assert!(script.iter().all(|rule| rule.fired > 0), "{script:?}");
        }
        // A line that begins with `!` is expected to fail, and the shell inverts its status.
        let command = format!("{variables}{}", here(&line, &mount));
        let output = output_of(Path::new("/bin/sh"), &["-c", &command], mount.client()).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {said}");
    }
    assert!(outages >= 4, "{outages} outages were rehearsed");
    // Whatever failed, no unknown key can spend money.
    mount.knows_every_key().await;
}

/// The lines of all its shell blocks, without comments.
fn runbook() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simulator/README.md");
    let readme = fs::read_to_string(path).expect("the simulator's README can be read");
    let (_, section) = readme
        .split_once("\n## Rehearse an outage\n")
        .expect("the runbook");
    let section = section.split("\n## ").next().unwrap_or_default();
    let blocks = section.split("```shell\n").skip(1);
    blocks
        .filter_map(|block| block.split("```").next())
        .flat_map(str::lines)
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

fn is_assignment(line: &str) -> bool {
    let name = line.split_once('=').map(|(name, _)| name);
    name.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_lowercase()))
}

/// Adapts a line that is written for the mount `openrouter` and the reader's own simulator to those of this
/// test.
fn here(line: &str, mount: &Mount) -> String {
    let base_url = mount.openrouter.base_url();
    line.replace("http://127.0.0.1:8787/api/v1", &base_url)
        .replace(
            "http://127.0.0.1:8787/simulator",
            &mount.openrouter.control_url(),
        )
        .replace("sk-or-v1-rehearsal", mount.openrouter.management_key())
        .replace(" openrouter/", &format!(" {}/", mount.path()))
}
