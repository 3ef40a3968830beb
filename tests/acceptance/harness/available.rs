//! What a test would like to run and a machine may not have.

use std::io::Write as _;
use std::process::Command;

/// Says in one line, past the test's own captured output, what was not run and why.
pub(crate) fn skipped(why: &str) {
    // Not worth a failure if nobody listens.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// Whether there is such a program.
pub(crate) fn runs(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}
