//! The effect of a request for a run, given the stored run. Pure.

use jiff::Timestamp;

use super::Wanted;
use crate::engine::books::{Run, Work};
use crate::engine::error::Error;

/// The effect of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// A new run starts, and replaces the stored one.
    Begin(Work),
    /// The request joins an active run that does the same, or nearly.
    Join {
        /// When that run began.
        began: Timestamp,
        /// How it differs from the request.
        warning: Option<String>,
    },
}

/// Decides on a request.
///
/// # Errors
/// [`Error::Conflict`] if it cannot join the active run of this kind; [`Error::Invalid`] for a removal
/// without a preceding dry run.
pub(super) fn decide(before: Option<&Run>, wanted: &Wanted) -> Result<Decision, Error> {
    let active = before.filter(|run| run.is_active());
    match wanted {
        Wanted::RotateAll(_, grace) => Ok(rotate_all(active, *grace)),
        Wanted::Tidy(_, dry_run) => tidy(before, *dry_run),
        Wanted::Teardown => Ok(active
            .map_or(Decision::Begin(Work::Teardown { cancelled: None }), |run| {
                join(run, None)
            })),
    }
}

fn join(run: &Run, warning: Option<String>) -> Decision {
    let began = run.began;
    Decision::Join { began, warning }
}

/// An emergency does not join a run that leaves keys alive. It replaces that run, and starts now.
fn rotate_all(active: Option<&Run>, grace: Option<u64>) -> Decision {
    let Some(run) = active else {
        return Decision::Begin(Work::RotateAll { grace });
    };
    let Work::RotateAll { grace: other } = run.work else {
        return Decision::Begin(Work::RotateAll { grace });
    };
    if other == grace {
        return join(run, None);
    }
    if grace == Some(0) {
        return Decision::Begin(Work::RotateAll { grace });
    }
    let other = match other {
        None => "each role's own".to_owned(),
        Some(seconds) => format!("{seconds} seconds"),
    };
    let warning = format!(
        "joined the run that began at {}, whose rotation_grace_period is {other}",
        run.began
    );
    join(run, Some(warning))
}

fn tidy(before: Option<&Run>, dry_run: bool) -> Result<Decision, Error> {
    let last = before.and_then(|run| match &run.work {
        Work::Tidy {
            dry_run,
            keys,
            more,
        } => Some((run, *dry_run, keys, *more)),
        _ => None,
    });
    if let Some((run, other, ..)) = last
        && run.is_active()
    {
        if other == dry_run {
            return Ok(join(run, None));
        }
        return Err(Error::Conflict(format!(
            "a run with dry_run={other} has been in progress since {}; wait until it has finished",
            run.began
        )));
    }
    if dry_run {
        return Ok(Decision::Begin(Work::Tidy {
            dry_run,
            keys: Default::default(),
            more: 0,
        }));
    }
    match last {
        Some((run, true, keys, more)) if run.outcome.refusal.is_none() => {
            Ok(Decision::Begin(Work::Tidy {
                dry_run,
                keys: keys.clone(),
                more,
            }))
        }
        _ => Err(Error::invalid(
            "dry_run=false removes what the last dry run listed, and there is none since the last \
             removal; write with dry_run=true and check keys",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::engine::books::Outcome;
    use crate::engine::names::ConnectionName;
    use crate::openrouter::KeyHash;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn over(run: Run) -> Run {
        let ended = Some(at(9));
        Run { ended, ..run }
    }

    fn rotating(grace: Option<u64>) -> Run {
        Run::new(Work::RotateAll { grace }, at(5))
    }

    fn rotate(before: Option<&Run>, grace: Option<u64>) -> Decision {
        decide(before, &Wanted::RotateAll(ConnectionName::default(), grace)).unwrap()
    }

    fn tidying(dry_run: bool) -> Run {
        let hash = KeyHash::parse(&"a".repeat(64)).unwrap();
        let keys = BTreeMap::from([(hash, "old".to_owned())]);
        let more = 2;
        let work = Work::Tidy {
            dry_run,
            keys,
            more,
        };
        Run::new(work, at(5))
    }

    fn tidy(before: Option<&Run>, dry_run: bool) -> Result<Decision, Error> {
        decide(before, &Wanted::Tidy(ConnectionName::default(), dry_run))
    }

    fn is_joined(decision: &Decision) -> bool {
        matches!(decision, Decision::Join { began, .. } if *began == at(5))
    }

    #[test]
    fn whoever_asks_for_what_goes_on_joins_it() {
        for grace in [None, Some(0), Some(600)] {
            let run = rotating(grace);
            let joined = rotate(Some(&run), grace);
            assert_eq!(
                joined,
                Decision::Join {
                    began: at(5),
                    warning: None
                }
            );
            let anew = Decision::Begin(Work::RotateAll { grace });
            assert_eq!(rotate(Some(&over(run)), grace), anew);
            assert_eq!(rotate(None, grace), anew);
        }
    }

    #[test]
    fn an_emergency_joins_nothing_less_and_everything_else_joins_an_emergency() {
        let emergency = Decision::Begin(Work::RotateAll { grace: Some(0) });
        for grace in [None, Some(600)] {
            assert_eq!(rotate(Some(&rotating(grace)), Some(0)), emergency);
            let Decision::Join { began, warning } = rotate(Some(&rotating(Some(0))), grace) else {
                panic!("{grace:?} begins anew");
            };
            assert_eq!(began, at(5));
            assert!(warning.unwrap().contains("0 seconds"));
        }
    }

    #[test]
    fn only_what_a_dry_run_has_listed_is_removed_and_only_once() {
        assert!(
            tidy(None, false)
                .unwrap_err()
                .to_string()
                .contains("dry_run=true")
        );
        let listed = over(tidying(true));
        let Decision::Begin(Work::Tidy {
            dry_run,
            keys,
            more,
        }) = tidy(Some(&listed), false).unwrap()
        else {
            panic!("it begins");
        };
        assert_eq!((dry_run, keys.len(), more), (false, 1, 2));
        let removed = over(tidying(false));
        assert!(tidy(Some(&removed), false).is_err());
        let refusal = Some("two copies".to_owned());
        let outcome = Outcome {
            refusal,
            ..Outcome::default()
        };
        let refused = Run { outcome, ..listed };
        assert!(tidy(Some(&refused), false).is_err());
        for before in [None, Some(&removed), Some(&refused)] {
            let begun = tidy(before, true).unwrap();
            assert!(
                matches!(begun, Decision::Begin(Work::Tidy { dry_run: true, keys, .. })
                if keys.is_empty())
            );
        }
    }

    #[test]
    fn a_removal_and_a_dry_run_do_not_join_each_other() {
        for dry_run in [true, false] {
            let run = tidying(dry_run);
            assert!(is_joined(&tidy(Some(&run), dry_run).unwrap()));
            let reason = tidy(Some(&run), !dry_run).unwrap_err();
            assert!(matches!(reason, Error::Conflict(_)), "{reason}");
        }
    }

    #[test]
    fn a_teardown_begins_anew_once_it_is_over_or_cancelled() {
        let begin = Decision::Begin(Work::Teardown { cancelled: None });
        let run = |cancelled| Run::new(Work::Teardown { cancelled }, at(5));
        let decide = |before: Option<&Run>| decide(before, &Wanted::Teardown).unwrap();
        assert!(is_joined(&decide(Some(&run(None)))));
        assert_eq!(decide(Some(&run(Some(at(6))))), begin);
        assert_eq!(decide(Some(&over(run(None)))), begin);
        assert_eq!(decide(None), begin);
    }
}
