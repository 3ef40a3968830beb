//! A row of the table: the measurements of both sides, their ratios, and the goal.

use serde::Serialize;

/// The minimum, median and maximum of the measurements.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) minimum: f64,
    pub(crate) median: f64,
    pub(crate) maximum: f64,
}

impl Spread {
    /// Of at least one measurement.
    pub(crate) fn of(measured: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = measured.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Self {
            minimum: sorted[0],
            median: sorted[sorted.len() / 2],
            maximum: sorted[sorted.len() - 1],
        }
    }
}

/// The goal for a median.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// No goal: the row explains another one.
    None,
}

/// A row of the table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) ours: Spread,
    pub(crate) peer: Option<String>,
    pub(crate) theirs: Option<Spread>,
    /// Ours divided by theirs, for each turn.
    pub(crate) ratio: Option<Spread>,
    pub(crate) goal: Goal,
    /// Whether the goal is met by the median ratio, or by our median if there is no ratio.
    pub(crate) met: Option<bool>,
}

impl Figure {
    /// A comparison with a peer: ours and theirs, for each turn.
    pub(crate) fn ratio(
        name: impl Into<String>,
        unit: &'static str,
        peer: &str,
        turns: &[(f64, f64)],
        goal: Goal,
    ) -> Self {
        let ratio = Spread::of(turns.iter().map(|(ours, theirs)| ours / theirs));
        Self {
            name: name.into(),
            unit,
            ours: Spread::of(turns.iter().map(|(ours, _)| *ours)),
            peer: Some(peer.to_owned()),
            theirs: Some(Spread::of(turns.iter().map(|(_, theirs)| *theirs))),
            ratio: Some(ratio),
            goal,
            met: goal.is_met_by(ratio.median),
        }
    }

    /// A figure of this plugin alone.
    pub(crate) fn alone(
        name: impl Into<String>,
        unit: &'static str,
        measured: &[f64],
        goal: Goal,
    ) -> Self {
        let ours = Spread::of(measured.iter().copied());
        Self {
            name: name.into(),
            unit,
            ours,
            peer: None,
            theirs: None,
            ratio: None,
            goal,
            met: goal.is_met_by(ours.median),
        }
    }
}

impl Goal {
    fn is_met_by(self, median: f64) -> Option<bool> {
        match self {
            Self::AtMost(most) => Some(median <= most),
            Self::AtLeast(least) => Some(median >= least),
            Self::None => None,
        }
    }
}
