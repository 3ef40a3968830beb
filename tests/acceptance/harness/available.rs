//! What a test would like to run and a machine may not have, and what a test has to tell.

use std::io::Write as _;
use std::process::Command;

/// Says in one line, past the test's own captured output, what was not run and why.
pub(crate) fn skipped(why: &str) {
    say(&format!("skipped: {why}"));
}

/// Says this in one line, past the test's own captured output.
pub(crate) fn say(line: &str) {
    // Not worth a failure if nobody listens.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Whether there is such a program.
pub(crate) fn runs(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}
