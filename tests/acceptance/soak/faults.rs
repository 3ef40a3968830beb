//! Random faults of OpenRouter.

use fastrand::Rng;
use openrouter_simulator::{Fault, KeyChanges, Rule};

/// A fault for the next few requests of a kind.
pub(super) fn any(random: &mut Rng) -> Rule {
    let requests = [
        ("POST", "/keys"),
        ("POST", "/keys"),
        ("DELETE", "/keys/*"),
        ("GET", "/keys"),
        ("GET", "/key"),
    ];
    let (method, path) = requests[random.usize(0..requests.len())];
    fault(random).on(method, path).times(random.u32(1..4))
}

fn fault(random: &mut Rng) -> Fault {
    match random.u32(0..11) {
        0 => Fault::LostReply,
        1 => Fault::ResetBeforeEffect,
        2 => Fault::status(500),
        3 => Fault::status(503).after_the_effect(),
        4 => Fault::rate_limited(1),
        5 => Fault::TruncatedBody,
        6 => Fault::NonsenseJson,
        7 => Fault::Html {
            status: 502,
            after_effect: random.bool(),
        },
        8 => Fault::Slow {
            milliseconds: random.u64(100..3_000),
            after_effect: random.bool(),
        },
        9 => Fault::CreatedKeyDoesNotAuthenticate { uses: None },
        _ => Fault::CreatedOtherwise(KeyChanges {
            limit: Some(Some(1_000.0)),
            ..KeyChanges::default()
        }),
    }
}
