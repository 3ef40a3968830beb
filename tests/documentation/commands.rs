//! Which commands are run, by which rules, and whether the recording in the README is of today's quick start.

use std::fs;
use std::process::Command;

use crate::links::pages;
use crate::pages::{Block, Mark, Page, RUN, root};

#[test]
fn every_shell_block_is_run_or_says_why_not() {
    let (mut runs, mut marked) = (0, 0);
    for page in pages().values() {
        // tests/acceptance/rehearsal.rs runs its commands.
        if page.name == "tests/simulator/README.md" {
            continue;
        }
        assert_eq!(unmarked_commands(page), [""; 0]);
        for block in page.shell() {
            let at = format!("{}:{}", page.name, block.line);
            match block.mark() {
                Mark::NotRun(reason) => {
                    marked += 1;
                    assert!(reason.len() > 20, "{at}: `{reason}` is no reason");
                }
                mark => {
                    runs += 1;
                    if let Mark::Fails(message) = mark {
                        assert!(message.len() > 20, "{at}: `{message}` fits too much");
                    }
                    assert!(RUN.contains(&page.name.as_str()), "{at} is not run");
                }
            }
        }
    }
    assert!(runs > 50, "{runs} blocks are run");
    assert!(marked < runs / 2, "{marked} blocks are not run");
}

/// Where the page has commands in a block that is not checked, because it is in another language than
/// `shell`, or in text.
fn unmarked_commands(page: &Page) -> Vec<String> {
    let is_command = |block: &Block| match &*block.language {
        // Those of the reference have a separate test. The other one is the output of a test.
        "shell-session" => {
            !["docs/reference.md", "tests/simulator/BEHAVIOR.md"].contains(&&*page.name)
        }
        "bash" | "sh" | "console" | "shell-script" => true,
        // The quick start prints the commands of the README.
        "text" | "" => {
            page.name != "README.md" && block.text.lines().any(|line| line.starts_with("$ "))
        }
        _ => false,
    };
    // tests/acceptance/consumers/leased/command_line.rs runs the session of docs/concepts.md.
    if page.name == "docs/concepts.md" {
        return Vec::new();
    }
    let unmarked = page.blocks.iter().filter(|block| is_command(block));
    unmarked
        .map(|block| format!("{}:{}: call commands shell", page.name, block.line))
        .collect()
}

#[test]
fn commands_in_a_block_that_nobody_runs_are_noticed() {
    let page = |block: &str| Page::of("docs/made-up.md", block.to_owned());
    for checked in [
        "```shell\nvault status\n```\n",
        "```text\nKey    Value\n```\n",
    ] {
        assert_eq!(unmarked_commands(&page(checked)), [""; 0]);
    }
    for unmarked in [
        "```bash\nvault status\n```\n",
        "```shell-session\n$ vault status\n```\n",
        "```text\n$ vault status\nKey    Value\n```\n",
    ] {
        assert_eq!(
            unmarked_commands(&page(unmarked)),
            ["docs/made-up.md:1: call commands shell"]
        );
    }
}

#[test]
fn a_documented_command_that_fails_or_no_longer_fails_is_noticed() {
    let run = |text: &str| {
        let page = Page::of("docs/made-up.md", text.to_owned());
        // There is no server to wait for.
        let script = page.script("until_ready() { :; }\n");
        let bash = Command::new("bash").args(["-c", &script]).output().unwrap();
        let said = String::from_utf8([bash.stdout, bash.stderr].concat()).unwrap();
        (bash.status.success(), said)
    };
    let fine = "```shell\nkey=5\ntest $key = 5\n```\n\n<!-- fails: it cannot be read -->\n```shell\n\
                echo 'no: it cannot be read' >&2; exit 1\n```\n\n<!-- not run: it takes a day to run -->\n\
                ```shell\nfalse\n```\n\n```shell\ntest $key = 5\n```\n";
    assert_eq!(run(fine), (true, String::new()));
    for (wrong, says) in [
        // A command, one within a pipe, and a variable that nothing sets.
        ("```shell\ntrue\nfalse\n```\n", "the block in line 1 failed"),
        (
            "# Page\n\n```shell\nfalse | cat\n```\n",
            "the block in line 3 failed",
        ),
        ("```shell\necho $nothing_sets_it\n```\n", "unbound variable"),
        (
            "<!-- fails: it cannot be read -->\n```shell\necho fine\n```\n",
            "it succeeded: fine",
        ),
        (
            "<!-- fails: it cannot be read -->\n```shell\necho other; exit 1\n```\n",
            "it failed otherwise: other",
        ),
    ] {
        let (passed, said) = run(wrong);
        assert!(!passed, "{wrong}");
        assert!(said.contains(says), "{says} in: {said}");
    }
}

#[test]
fn the_recording_in_the_readme_is_of_todays_quick_start() {
    let script = fs::read_to_string(root().join("scripts/quickstart")).unwrap();
    let headings: Vec<&str> = script
        .lines()
        .filter_map(|line| line.strip_prefix("heading \"")?.strip_suffix('"'))
        .collect();
    let script = script.replace("\\\"", "\"").replace("\\$", "$");
    let readme = Page::read("README.md");
    let recording = readme
        .blocks
        .iter()
        .find(|block| block.text.starts_with("5. "));
    let (mut steps, mut commands) = (0, 0);
    for line in recording.unwrap().text.lines() {
        if let Some(command) = line.strip_prefix("$ vault ") {
            commands += 1;
            let runs = script.contains(&format!("\nrun vault {command}\n"))
                || script.contains(&format!("\nshow \"vault {command}\"\n"));
            assert!(runs, "scripts/quickstart has no `vault {command}`");
        } else if let Some((number, heading)) = line.split_once(". ")
            && let Ok(number) = number.parse::<usize>()
        {
            steps += 1;
            assert_eq!(headings[number - 1], heading, "step {number}");
        }
    }
    assert_eq!((steps, commands), (2, 3));
}
