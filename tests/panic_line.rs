//! A panic is one line of the log. In a separate file, because a process has only one panic hook.

use std::io::{self, Write};
use std::panic::{catch_unwind, set_hook, take_hook};
use std::sync::mpsc::{Sender, channel};

use jiff::Timestamp;
use serde_json::Value;
use vault_plugin_secrets_openrouter::goplugin::{Hclog, LogSource};

struct Lines(Sender<String>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.0.send(text).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_panic_becomes_one_error_line_with_text_and_place() {
    let (write, written) = channel();
    let source = LogSource {
        krate: "any",
        module: "plugin",
    };
    let log = Hclog::new(source, Lines(write), || Timestamp::UNIX_EPOCH);
    set_hook(Box::new(log.panic_hook()));
    let number = 7;
    let panicked = catch_unwind(|| panic!("the number {number}\nis wrong"));
    // The last sender is dropped with the hook and the log.
    drop((take_hook(), log));

    assert!(panicked.is_err());
    let written: String = written.iter().collect();
    assert_eq!(written.lines().count(), 1, "{written}");
    let line: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(line["@level"], "error");
    assert_eq!(line["@module"], "plugin");
    assert_eq!(line["panic"], "the number 7\nis wrong");
    assert!(
        line["location"]
            .as_str()
            .unwrap()
            .starts_with("tests/panic_line.rs:"),
        "{line}"
    );
}
