//! Checks the simulator with OpenRouter's own SDKs, and with its published document if that is given:
//! `sdk/check.sh`, with the table that it prints.
//!
//! The SDKs are installed once into the build folder. If a language, its registry or the document is
//! missing, the test prints one line and checks nothing.

use std::io::Write as _;
use std::path::Path;

use tokio::process::Command;

#[tokio::test]
async fn the_sdk_for_node_makes_of_every_answer_what_it_should() {
    judged_by("node").await;
}

#[tokio::test]
async fn the_sdk_for_python_makes_of_every_answer_what_it_should() {
    judged_by("python").await;
}

#[tokio::test]
async fn a_contract_tester_finds_nothing_but_what_the_page_lists() {
    judged_by("contract").await;
}

async fn judged_by(language: &str) {
    let check = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk/check.sh");
    let simulator = env!("CARGO_BIN_EXE_openrouter-simulator");
    let output = Command::new(check)
        .args(["--simulator", simulator, language])
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let (table, said) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if output.status.code() == Some(UNAVAILABLE) {
        let why = said.trim_end().lines().next_back().unwrap_or_default();
        // Bypasses the test's captured output; a write error is ignored.
        let _ = writeln!(std::io::stderr(), "skipped: sdk/check.sh {language}: {why}");
        return;
    }
    assert!(output.status.success(), "{table}{said}");
}

/// The exit code of `sdk/check.sh` if a requirement is missing on this machine.
const UNAVAILABLE: i32 = 3;
