//! Programs that a test needs and a machine may not have, and messages from a test.

use std::io::Write as _;
use std::process::Command;

/// Prints one line that says what was not run and why. It bypasses the captured output of the test.
pub(crate) fn skipped(why: &str) {
    say(&format!("skipped: {why}"));
}

/// Prints one line that bypasses the captured output of the test.
pub(crate) fn say(line: &str) {
    // A write error is ignored.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Whether there is a program with this name.
pub(crate) fn runs(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}
