//! The cases of a scenario: which snapshot of it is restored, and what happens before.

/// What happens after a snapshot was taken, before it is restored.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meanwhile {
    /// The scenario ends.
    End,
    /// It ends, and readers go on until everything has come to rest.
    Rest,
    /// The process dies at this point. A standby serves readers.
    Crash(usize),
    /// The process dies at this point, and readers go on while its successor puts everything right.
    Recovery(usize),
}

/// A snapshot, by how many writes were made before it, and what happens before it is restored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) snapshot: usize,
    pub(super) meanwhile: Meanwhile,
}

impl Case {
    /// Those of a scenario with these points. Of the crashes after a snapshot there are those at its own write,
    /// at the next one, and at the last point.
    pub(super) fn all(points: &[String]) -> Vec<Self> {
        let is_write =
            |name: &str| name.starts_with("after put ") || name.starts_with("after delete ");
        let numbered = points.iter().enumerate();
        let writes: Vec<usize> = numbered
            .filter(|(_, name)| is_write(name))
            .map(|(number, _)| number)
            .collect();
        let last = points.len() - 1;
        let mut cases = Vec::new();
        for snapshot in 0..=writes.len() {
            let mut add = |meanwhile| {
                cases.push(Self {
                    snapshot,
                    meanwhile,
                });
            };
            add(Meanwhile::Rest);
            if let Some(own) = snapshot.checked_sub(1) {
                add(Meanwhile::Recovery(writes[own]));
            }
            let Some(&next) = writes.get(snapshot) else {
                continue;
            };
            add(Meanwhile::End);
            add(Meanwhile::Crash(next));
            add(Meanwhile::Recovery(next));
            if next < last {
                add(Meanwhile::Crash(last));
            }
        }
        cases
    }

    pub(super) fn dies_at(self) -> Option<usize> {
        match self.meanwhile {
            Meanwhile::End | Meanwhile::Rest => None,
            Meanwhile::Crash(at) | Meanwhile::Recovery(at) => Some(at),
        }
    }
}
