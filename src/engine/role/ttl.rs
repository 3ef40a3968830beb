//! The lease that a reader gets, which roles of both kinds have. Durations are seconds.

use std::time::Duration;

use crate::framework::Field;

/// The longest that a lease of `wanted` seconds may be on a mount with this maximum. A server says 0
/// when it was not told one.
pub fn capped(wanted: u64, longest: Duration) -> u64 {
    if longest.is_zero() {
        wanted
    } else {
        wanted.min(longest.as_secs().max(1))
    }
}

/// What to say of a role's `ttl` that was [`capped`], if it was.
pub fn shortened(wanted: u64, ttl: u64) -> Option<String> {
    (ttl < wanted).then(|| {
        format!(
            "the role's ttl of {wanted} seconds is more than the mount's maximum lease duration, so \
             the lease is {ttl} seconds"
        )
    })
}

/// The field.
pub const TTL: Field = Field::duration(
    "ttl",
    "The lease that a reader gets. Of a rotating role at most nine tenths of\n\
     rotation_grace_period, of a dynamic one at most max_ttl.",
)
.default("1h");

/// In seconds.
pub const DEFAULT_TTL: u64 = 60 * 60;
