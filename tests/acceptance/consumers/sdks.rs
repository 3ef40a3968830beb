//! OpenRouter's own SDKs and OpenAI's, as in `samples/sdk/`. Each makes one chat call with a key that was
//! just read from the server. Two applications read their key themselves, and again when it dies.
//!
//! `scripts/sdks` installs the SDKs. If a language or its registry is not available, one line says so and
//! nothing is tested. If an SDK reports an error, the test fails.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::harness::{Directory, Mount, reader, samples, skipped};

#[tokio::test]
async fn the_sdks_for_node_chat_with_a_key_from_the_server() {
    let Some(installed) = sdks("node").await else {
        return;
    };
    let directory = Directory::without_plugin();
    // A module is searched for where the program is.
    symlink(
        installed.join("node_modules"),
        directory.path("node_modules"),
    )
    .expect("a link");
    for sample in ["chat-openrouter.mjs", "chat-openai.mjs"] {
        let program = directory.path(sample);
        std::fs::copy(samples().join("sdk").join(sample), &program).expect("a copy");
        chats(&directory, Path::new("node"), &program).await;
    }
}

#[tokio::test]
async fn the_sdks_for_python_chat_with_a_key_from_the_server() {
    let Some(installed) = sdks("python").await else {
        return;
    };
    let directory = Directory::without_plugin();
    for sample in ["chat_openrouter.py", "chat_openai.py"] {
        let program = samples().join("sdk").join(sample);
        chats(&directory, &installed.join("bin/python"), &program).await;
    }
}

#[tokio::test]
async fn an_application_in_python_that_is_told_nothing_outlives_an_emergency_rotation() {
    let Some(installed) = sdks("python").await else {
        return;
    };
    let sample = samples().join("sdk/chat_rereading.py");
    rereads(&installed.join("bin/python"), &sample).await;
}

#[tokio::test]
async fn an_application_in_javascript_that_is_told_nothing_outlives_an_emergency_rotation() {
    let Some(installed) = sdks("node").await else {
        return;
    };
    let directory = Directory::without_plugin();
    symlink(
        installed.join("node_modules"),
        directory.path("node_modules"),
    )
    .expect("a link");
    let program = directory.path("chat-rereading.mjs");
    std::fs::copy(samples().join("sdk/chat-rereading.mjs"), &program).expect("a copy");
    rereads(Path::new("node"), &program).await;
}

/// Talks to the application before and after two emergency rotations. Every line is answered, and each
/// rotation costs one refused call and one more read.
async fn rereads(interpreter: &Path, sample: &Path) {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let reader = reader(&mount).await;
    let directory = Directory::without_plugin();
    let mut command = directory.command(interpreter);
    command
        .arg(sample)
        .env("VAULT_ADDR", reader.address())
        .env("VAULT_TOKEN", reader.token())
        .env("OPENROUTER_VAULT_PATH", mount.at("creds/app"))
        .env("OPENROUTER_BASE_URL", mount.openrouter.base_url());
    let mut application = tokio::process::Command::from(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the interpreter can be started");
    let mut input = application.stdin.take().expect("an input");
    let output = application.stdout.take().expect("an output");
    let mut answers = BufReader::new(output).lines();
    for rotations in 0..3 {
        for _ in 0..5 {
            input.write_all(b"Say hello.\n").await.expect("it reads");
            let answer = answers.next_line().await.expect("an answer");
            assert_eq!(answer.as_deref(), Some("Simulated."));
        }
        let calls = mount.openrouter.requests().to("POST", "/chat/completions");
        let refused = calls.iter().filter(|call| call.status == Some(401)).count();
        assert_eq!(
            (calls.len(), refused),
            (5 * (rotations + 1) + rotations, rotations)
        );
        let emergency = json!({"rotation_grace_period": 0});
        mount.write("rotate-role/app", emergency).await.ok();
    }
    // The application exits at the end of its input.
    drop(input);
    let status = application.wait().await.expect("it ends");
    assert!(status.success(), "{status}");
}

/// Runs the sample with a key that is read from a separate mount.
async fn chats(directory: &Directory, interpreter: &Path, sample: &Path) {
    let mount = Mount::new().await;
    mount.role("app", json!({})).await;
    let client = reader(&mount).await;
    let key = client.read(&mount.at("creds/app")).await.ok();
    let mut command = directory.command(interpreter);
    command
        .arg(sample)
        .env("OPENROUTER_API_KEY", key.text("api_key"))
        .env("OPENROUTER_BASE_URL", mount.openrouter.base_url());
    let output = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .output()
        .await
        .expect("the interpreter can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", sample.display());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Simulated.\n");
    let calls = mount.openrouter.requests().to("POST", "/chat/completions");
    assert_eq!(calls.len(), 1, "{}", sample.display());
}

/// The directory of a language's SDKs; `None` if they are not available.
async fn sdks(language: &str) -> Option<PathBuf> {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/sdks"));
    command.arg(language);
    let output = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .output()
        .await
        .expect("scripts/sdks runs");
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => {
            let folder = String::from_utf8(output.stdout).expect("a path in UTF-8");
            Some(PathBuf::from(folder.trim_end()))
        }
        Some(UNAVAILABLE) => {
            let why = said.trim_end().lines().next_back().unwrap_or_default();
            skipped(&format!("the SDKs for {language}: {why}"));
            None
        }
        _ => panic!("scripts/sdks {language}: {said}"),
    }
}

/// The exit code of `scripts/sdks` if a requirement is missing on this machine.
const UNAVAILABLE: i32 = 3;
