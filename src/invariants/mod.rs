//! Invariants that hold for any input. Each is stated once and tested twice.
//!
//! `fuzz/` generates inputs without end. The tests of this module generate a few thousand from a seed,
//! starting from the same examples. Each function passes its input to the code that handles such input,
//! and panics if the result breaks an invariant. The plugin contains none of this.
//!
//! | function | input |
//! |---|---|
//! | [`request_data`] | the body of a request to the engine |
//! | [`cron`] | a cron schedule |
//! | [`duration`] | a duration |
//! | [`broker_stream`] | what the host sends on its broker stream |
//! | [`answer`] | an answer of OpenRouter, or of a proxy |

pub use crate::engine::invariants::request_data;
pub use crate::framework::invariants::duration;
pub use crate::goplugin::invariants::broker_stream;
pub use crate::openrouter::invariants::answer;
pub use crate::schedule::invariants::cron;

/// Panics unless a text is safe to show: one line, no control characters, and a readable length.
#[track_caller]
pub(crate) fn assert_can_be_shown(text: &str) {
    let control = text.chars().find(|c| c.is_control());
    assert_eq!(control, None, "a control character in {text:?}");
    let length = text.chars().count();
    assert!(length <= LONGEST_SHOWN, "{length} characters: {text:?}");
}

/// In characters. Enough for a list of every field of a path.
const LONGEST_SHOWN: usize = 2_000;

#[cfg(test)]
mod tests;
