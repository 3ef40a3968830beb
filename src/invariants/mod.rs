//! What must hold for any input, whatever somebody sends: said once, tried twice.
//!
//! `fuzz/` makes up inputs without end; the tests of this module make up a seeded few thousand, from
//! the same examples. Each function here takes an input, gives it to the code that meets such input,
//! and panics if what the code makes of it is not what it promises. None of this is in the plugin.
//!
//! | function | what comes from outside |
//! |---|---|
//! | [`request_data`] | the body of a request to the engine |
//! | [`cron`] | a cron schedule |
//! | [`duration`] | a duration |
//! | [`broker_stream`] | what the host sends on its broker stream |
//! | [`answer`] | an answer of OpenRouter's, or of whoever answers in its place |

pub use crate::engine::invariants::request_data;
pub use crate::framework::invariants::duration;
pub use crate::goplugin::invariants::broker_stream;
pub use crate::openrouter::invariants::answer;
pub use crate::schedule::invariants::cron;

/// Panics unless a text can be shown to a person as it is: one line, nothing that moves a terminal's
/// cursor, and no more of it than anybody reads.
#[track_caller]
pub(crate) fn assert_can_be_shown(text: &str) {
    let control = text.chars().find(|c| c.is_control());
    assert_eq!(control, None, "a control character in {text:?}");
    let length = text.chars().count();
    assert!(length <= LONGEST_SHOWN, "{length} characters: {text:?}");
}

/// In characters. Room for a list of every field that a path takes.
const LONGEST_SHOWN: usize = 2_000;

#[cfg(test)]
mod tests;
