//! A row of the table: what was measured on either side, the ratios, and what they should be.

use serde::Serialize;

/// The least, the median and the most of what was measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) minimum: f64,
    pub(crate) median: f64,
    pub(crate) maximum: f64,
}

impl Spread {
    /// Of what was measured, at least once.
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

/// What a median should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// It is told because it explains another row.
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
    /// Ours by theirs, of each turn.
    pub(crate) ratio: Option<Spread>,
    pub(crate) goal: Goal,
    /// Whether the median of the ratio, or of ours where there is none, is what it should be.
    pub(crate) met: Option<bool>,
}

impl Figure {
    /// A comparison with a peer: of each turn, ours and theirs.
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

    /// A figure of ours alone.
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
