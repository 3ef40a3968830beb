//! How often each fault strikes, at the moment.

use std::time::Duration;

use reqwest::Method;

use crate::dice::Dice;
use crate::raft::Fate;

/// Probabilities of faults, from 0 to 1.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// A read of storage fails.
    pub(crate) lost_reads: f64,
    /// A write to storage fails, or is reported as failed.
    failing_writes: f64,
    /// A request to OpenRouter goes wrong.
    bad_requests: f64,
    /// No request gets through to OpenRouter.
    outage: bool,
}

/// What happens to a request on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnTheWay {
    /// It arrives, and its answer arrives.
    Straight,
    /// No connection is made.
    Nowhere,
    /// It does not arrive.
    LostThere,
    /// It arrives this much later.
    Late(Duration),
    /// It arrives a second time, this much later.
    Doubled(Duration),
    /// It is refused with this status, and a wait of this many seconds.
    Refused(u16, Option<u64>),
    /// It arrives, and there is no answer.
    LostBack,
    /// It arrives, and the answer has this status and makes no sense.
    Garbled(u16),
    /// It is answered as if it were carried out, but is not.
    Hollow,
}

impl Weather {
    /// Nothing goes wrong.
    pub(crate) const CALM: Self = Self {
        lost_reads: 0.0,
        failing_writes: 0.0,
        bad_requests: 0.0,
        outage: false,
    };

    /// Random weather.
    pub(crate) fn any(dice: &Dice) -> Self {
        let rough = Self {
            lost_reads: 0.01,
            failing_writes: 0.05,
            bad_requests: 0.1,
            outage: false,
        };
        let storm = Self {
            lost_reads: 0.05,
            failing_writes: 0.2,
            bad_requests: 0.4,
            outage: false,
        };
        let outage = Self {
            outage: true,
            ..rough
        };
        dice.weighted(&[(8, Self::CALM), (6, rough), (3, storm), (1, outage)])
    }

    /// Whether anything can go wrong.
    pub(crate) fn is_bad(self) -> bool {
        self.outage || self.bad_requests > 0.0
    }

    pub(crate) fn fate_of_a_write(self, dice: &Dice) -> Fate {
        if !dice.chance(self.failing_writes) {
            return Fate::Stored;
        }
        *dice.pick(&[Fate::Lost, Fate::Unreported, Fate::Late])
    }

    pub(crate) fn on_the_way(self, dice: &Dice, method: &Method, is_assignment: bool) -> OnTheWay {
        if self.outage && dice.chance(0.95) {
            return *dice.pick(&[
                OnTheWay::Nowhere,
                OnTheWay::LostThere,
                OnTheWay::Refused(503, None),
            ]);
        }
        if !dice.chance(self.bad_requests) {
            return OnTheWay::Straight;
        }
        if is_assignment && dice.chance(0.3) {
            return OnTheWay::Hollow;
        }
        let is_listing = *method == Method::GET;
        match dice.number(0, 7) {
            0 => OnTheWay::Nowhere,
            1 => OnTheWay::LostThere,
            2 => OnTheWay::Late(dice.pause(500, 180_000)),
            3 if is_listing => OnTheWay::Refused(500, None),
            3 => OnTheWay::Doubled(dice.pause(50, 60_000)),
            4 => OnTheWay::Refused(429, Some(dice.number(1, 60))),
            5 => OnTheWay::Refused(*dice.pick(&[403, 500, 502, 503]), None),
            6 => OnTheWay::LostBack,
            _ => OnTheWay::Garbled(*dice.pick(&[200, 201, 502, 504])),
        }
    }
}
