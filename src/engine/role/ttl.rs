//! The duration of a lease, which both kinds of role have. Durations are in seconds.

use std::time::Duration;

use crate::framework::Field;

/// A lease of `wanted` seconds, limited to the mount's maximum. A server that has no maximum reports 0.
pub fn capped(wanted: u64, longest: Duration) -> u64 {
    if longest.is_zero() {
        wanted
    } else {
        wanted.min(longest.as_secs().max(1))
    }
}

/// The warning if a role's `ttl` was [`capped`].
pub fn shortened(wanted: u64, ttl: u64) -> Option<String> {
    (ttl < wanted).then(|| {
        format!(
            "the role's ttl of {wanted} seconds is more than the mount's maximum lease duration, so \
             the lease is {ttl} seconds"
        )
    })
}

/// The field `ttl`.
pub const TTL: Field = Field::duration(
    "ttl",
    "The duration of a lease. On a rotating role at most nine tenths of rotation_grace_period, on\n\
     a dynamic role at most max_ttl.",
)
.default("1h");

/// In seconds.
pub const DEFAULT_TTL: u64 = 60 * 60;
