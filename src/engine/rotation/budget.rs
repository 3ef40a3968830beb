//! Performs the work on a role's budget: does what [`Ledger::next`] returns, and divides the remaining budget
//! at a rotation. [`ends`] takes the final reading of a key, and makes room for a key that is restored.
//!
//! Every limit call is stored before it is sent ([`Ledger::begin`]), so that after a crash it is known what
//! may have been granted. A call whose outcome is unclear, or that an earlier process left, counts as granted
//! until a later reading has shown its outcome.

mod ends;

pub(super) use ends::{count_final, make_room, read_at_once};

use jiff::Timestamp;

use super::perform::failure;
use crate::engine::clock::seconds_until;
use crate::engine::connection::Urgency;
use crate::engine::context::RoleGuard;
use crate::engine::error::Error;
use crate::engine::names::ConnectionName;
use crate::engine::role::budget::{
    Amount, Begun, Counting, Grant, Ledger, Next, Reading, of_bearer, of_key,
};
use crate::engine::role::rotating::{CurrentKey, Failure, RotatingRole, Step, next_step};
use crate::engine::spending;
use crate::openrouter::{self, Key, KeyHash};

/// Performs one due step of the budget and stores the result. The second result is the error, which is also
/// stored with the role and retried.
///
/// # Errors
/// Errors from storage. Errors from OpenRouter are stored with the role, and the step is retried.
pub(super) async fn follow(
    guard: &RoleGuard<'_>,
    mut role: RotatingRole,
    next: Next,
) -> Result<(RotatingRole, Option<Error>), Error> {
    let current = role.current.hash.clone();
    let (about, done) = match next {
        Next::Set(hash, amount) => {
            let mut work = Work::on(guard, &mut role, Urgency::Ordinary);
            let done = match work.begin(&hash, amount) {
                // The ledger never returns a call that it does not allow. If it did, the call would be
                // retried like any failure.
                None => Err(Error::Conflict(format!(
                    "the budget does not allow a limit of {} for key {hash}",
                    amount.as_usd()
                ))),
                Some(begun) => {
                    guard.store(&role).await?;
                    let mut work = Work::on(guard, &mut role, Urgency::Ordinary);
                    match work.send(begun, hash != current).await {
                        Err(reason) if is_gone(&reason) && hash != current => {
                            is_found_gone(&mut role, &hash, guard.engine().now());
                            Ok(())
                        }
                        sent => sent,
                    }
                }
            };
            (hash, done)
        }
        Next::Read(hash) => {
            let done = settle(guard, &mut role, &hash).await;
            (hash, done)
        }
        Next::CheckForReset(hash) => (hash, check_for_reset(guard, &mut role).await),
        Next::Wait(_) => return Ok((role, None)),
    };
    let engine = guard.engine();
    let failed = match done {
        Err(reason @ (Error::Storage(_) | Error::System(_))) => return Err(reason),
        done => done.err(),
    };
    let again = |before: Option<&Failure>| Some(failure(engine, before, failed.as_ref()?));
    if about == current {
        role.limits_failure = again(role.limits_failure.as_ref());
    } else if let Some(ledger) = &mut role.ledger {
        let before = ledger.grant(&about).and_then(|g| g.failure.as_ref());
        let failure = again(before);
        ledger.failed(&about, failure);
    }
    guard.store(&role).await?;
    Ok((role, failed))
}

/// Performs all due steps of the budget. The second result is the last error, which is retried.
///
/// # Errors
/// Errors from storage.
pub(super) async fn follow_all(
    guard: &RoleGuard<'_>,
    mut role: RotatingRole,
) -> Result<(RotatingRole, Option<Error>), Error> {
    let mut failed = None;
    while let Step::Budget(next) = next_step(&role, guard.engine().now()) {
        (role, failed) = follow(guard, role, next).await?;
    }
    Ok((role, failed))
}

/// Divides the remaining budget between the current key and its successor. First the current key is lowered
/// to what it has spent plus its share for the grace period, then the new key gets the rest. An emergency
/// does not wait: what cannot be found out now counts in full, and the new key gets it later. The second
/// result is the reason why the new key must not become current. The role is returned as it is stored.
///
/// # Errors
/// Errors from storage.
pub(super) async fn divide(
    guard: &RoleGuard<'_>,
    mut role: RotatingRole,
    new: &mut CurrentKey,
    is_emergency: bool,
) -> Result<(RotatingRole, Option<Error>), Error> {
    let Some((budget, counting)) = role.definition.terms.budget() else {
        return Ok((role, None));
    };
    let now = guard.engine().now();
    let urgency = if is_emergency {
        Urgency::Emergency
    } else {
        // An emergency has no time for that.
        release_left_over(guard, &mut role, counting).await?;
        Urgency::Ordinary
    };
    let ledger = role
        .ledger
        .get_or_insert_with(|| Ledger::empty(&budget, now));
    ledger.add(new.hash.clone(), counting);
    let lowered = lower_current(guard, &mut role, !is_emergency, urgency).await;
    match lowered {
        Err(reason @ (Error::Storage(_) | Error::System(_))) => return Err(reason),
        Err(reason) if !is_emergency => return Ok((role, Some(reason))),
        Ok(()) | Err(_) => {}
    }
    let Some(ledger) = &role.ledger else {
        return Ok((role, None));
    };
    let rest = ledger.rest_for(&new.hash, &budget);
    let Some(begun) = Work::on(guard, &mut role, urgency).begin(&new.hash, rest) else {
        return Ok((role, None));
    };
    guard.store(&role).await?;
    let limits = begun.limits();
    match Work::on(guard, &mut role, urgency).send(begun, false).await {
        Ok(()) => {
            new.limits = limits;
            Ok((role, None))
        }
        Err(reason @ (Error::Storage(_) | Error::System(_))) => Err(reason),
        // The new key gets its limit in the next step; an older key must be ended now.
        Err(_) if is_emergency => Ok((role, None)),
        Err(reason) => Ok((role, Some(reason))),
    }
}

/// Releases the grants of keys that were to become current in earlier rotations, did not, and are gone. If
/// OpenRouter cannot be asked about a key, it counts until the next rotation.
async fn release_left_over(
    guard: &RoleGuard<'_>,
    role: &mut RotatingRole,
    counting: Counting,
) -> Result<(), Error> {
    let known: Vec<KeyHash> = role.keys().map(|(hash, _)| hash.clone()).collect();
    let Some(ledger) = &mut role.ledger else {
        return Ok(());
    };
    for hash in ledger.left_over(|hash| known.contains(hash)) {
        match read_other(guard, role, &hash, counting).await {
            Ok(None) => release(role, &hash),
            Err(reason @ (Error::Storage(_) | Error::System(_))) => return Err(reason),
            Ok(Some(_)) | Err(_) => {}
        }
    }
    Ok(())
}

/// Releases the grant of a new key that is gone and was never handed out.
pub(super) fn release(role: &mut RotatingRole, hash: &KeyHash) {
    if let Some(ledger) = &mut role.ledger {
        ledger.release(hash);
    }
}

/// Records that a key other than the current one is gone. Without a final reading its full grant counts as
/// spent, unless it was never handed out.
fn is_found_gone(role: &mut RotatingRole, hash: &KeyHash, now: Timestamp) {
    if role.has_key(hash) {
        role.count_ended(hash, None, now);
    } else {
        release(role, hash);
    }
}

fn is_gone(reason: &Error) -> bool {
    let Error::OpenRouter { reason, .. } = reason else {
        return false;
    };
    matches!(reason, openrouter::Error::NotFound { .. })
}

/// Lowers the current key to what it has spent, plus its share if it is to keep working.
async fn lower_current(
    guard: &RoleGuard<'_>,
    role: &mut RotatingRole,
    keeps_working: bool,
    urgency: Urgency,
) -> Result<(), Error> {
    let hash = role.current.hash.clone();
    let Some((budget, counting)) = role.definition.terms.budget() else {
        return Ok(());
    };
    let unclear = || {
        Error::Conflict(format!(
            "it is not certain yet what the current key of role {:?} may spend, since the outcome \
             of a limit change is unclear; try again in a few minutes",
            guard.name().to_string()
        ))
    };
    let since = work_began(guard).await?;
    let ledger = role.ledger.as_mut();
    let Some(ledger) = ledger.filter(|ledger| ledger.grant(&hash).is_some()) else {
        return Ok(());
    };
    // The steps of the budget skip a key that is gone, or that a teardown was to end. So what is unclear about
    // it is settled here too.
    ledger.inherit(&hash, since);
    let now = guard.engine().now();
    let read = match read_current(guard, role, counting, urgency).await {
        Ok(read) => read,
        // The key is gone. Its full grant counts in the window in which that was found.
        Err(reason) if is_gone(&reason) => {
            role.count_ended(&hash, None, now);
            return Ok(());
        }
        Err(reason) => return Err(reason),
    };
    let Some(ledger) = &mut role.ledger else {
        return Ok(());
    };
    ledger.read(&hash, read.reading, now);
    let share = ledger.share_for(&hash, &budget, read.reading.spent, keeps_working);
    let may_rise =
        |grant: &Grant| grant.may_rise() || (keeps_working && grant.may_rise_over(share));
    if ledger.grant(&hash).is_some_and(may_rise) {
        return Err(unclear());
    }
    lower(guard, role, (share, counting), read, urgency).await
}

/// Lowers the current key, which was read before. What it spends until that takes effect is counted.
async fn lower(
    guard: &RoleGuard<'_>,
    role: &mut RotatingRole,
    (to, counting): (Amount, Counting),
    read: Read,
    urgency: Urgency,
) -> Result<(), Error> {
    let (engine, hash) = (guard.engine(), role.current.hash.clone());
    let grant = role.ledger.as_ref().and_then(|ledger| ledger.grant(&hash));
    let could_spend = grant.map_or(Amount::ZERO, |grant| grant.limit);
    let Some(begun) = Work::on(guard, role, urgency).begin(&hash, to) else {
        return Ok(());
    };
    guard.store(role).await?;
    let mut work = Work::on(guard, role, urgency);
    work.send(begun, !read.is_exact).await?;
    if !read.is_exact || seconds_until(read.at, engine.now()) <= AT_ONCE {
        return Ok(());
    }
    let again = read_current(guard, role, counting, urgency).await;
    let (now, Some(ledger)) = (engine.now(), &mut role.ledger) else {
        return Ok(());
    };
    match again {
        Ok(again) if again.is_exact => ledger.read(&hash, again.reading, now),
        Err(reason @ (Error::Storage(_) | Error::System(_))) => return Err(reason),
        Ok(_) | Err(_) => ledger.doubt(&hash, could_spend, now),
    }
    Ok(())
}

/// When the work of this process began, which decides whether an unclear call was stored by an earlier one.
/// [`Timestamp::MIN`] if the clock was ahead then: every later call would be taken for an earlier one until the
/// clock has passed that time, and would stay unclear.
async fn work_began(guard: &RoleGuard<'_>) -> Result<Timestamp, Error> {
    let engine = guard.engine();
    let since = engine.books().await?.since;
    Ok(if since <= engine.now() {
        since
    } else {
        Timestamp::MIN
    })
}

/// Finds out the outcome of an unclear call.
async fn settle(
    guard: &RoleGuard<'_>,
    role: &mut RotatingRole,
    hash: &KeyHash,
) -> Result<(), Error> {
    let engine = guard.engine();
    let since = work_began(guard).await?;
    let Some((budget, counting)) = role.definition.terms.budget() else {
        return Ok(());
    };
    let is_current = role.current.hash == *hash;
    if let Some(ledger) = role.ledger.as_mut().filter(|l| l.is_inherited(hash, since)) {
        ledger.inherit(hash, since);
        return Ok(());
    }
    let read = if is_current {
        let read = read_current(guard, role, counting, Urgency::Ordinary).await;
        read.map(|read| Some(read.reading))
    } else {
        read_other(guard, role, hash, counting).await
    };
    let (now, current) = (engine.now(), role.current.hash.clone());
    match (read?, &mut role.ledger) {
        (Some(reading), Some(ledger)) => {
            if is_current {
                ledger.add_unlimited(hash.clone(), counting);
            }
            ledger.read(hash, reading, now);
            if !is_current {
                ledger.retarget(&budget, &current);
            }
        }
        (None, _) => is_found_gone(role, hash, now),
        (Some(_), None) => {}
    }
    Ok(())
}

async fn check_for_reset(guard: &RoleGuard<'_>, role: &mut RotatingRole) -> Result<(), Error> {
    let Some((budget, counting)) = role.definition.terms.budget() else {
        return Ok(());
    };
    let read = read_current(guard, role, counting, Urgency::Ordinary).await;
    let reading = read?.reading;
    let (now, current) = (guard.engine().now(), role.current.hash.clone());
    if let Some(ledger) = &mut role.ledger {
        if ledger.has_rolled(&current, reading, now) {
            ledger.roll(&budget, &current, reading, now);
        } else {
            ledger.has_not_rolled(now);
        }
    }
    Ok(())
}

/// A reading of the current key.
#[derive(Clone, Copy)]
struct Read {
    reading: Reading,
    /// Whether the reading is what OpenRouter enforces. Its reports may lag behind that.
    is_exact: bool,
    /// When it was requested.
    at: Timestamp,
}

/// Reads the current key with the key itself, if it may be sent to the connection's address: such a reading
/// does not lag. A key that was disabled outside the engine cannot authenticate, so OpenRouter's report is
/// used instead.
async fn read_current(
    guard: &RoleGuard<'_>,
    role: &RotatingRole,
    counting: Counting,
    urgency: Urgency,
) -> Result<Read, Error> {
    let (engine, key) = (guard.engine(), &role.current);
    let link = engine.links.open(&*engine.storage, &key.connection).await?;
    let turn = link.client(urgency).await;
    let at = engine.now();
    let read = |(reading, is_exact)| Read {
        reading,
        is_exact,
        at,
    };
    let itself = spending::ask_itself(engine, guard.name(), key, (&link, &turn)).await;
    if let Some(itself) = itself.map_err(while_reading(&key.hash))? {
        return Ok(read(of_bearer(&itself, counting)));
    }
    let reported = turn.key(&key.hash).await;
    let reported = reported.map_err(while_reading(&key.hash))?;
    spending::note(engine, guard.name(), &reported);
    Ok(read((of_key(&reported, counting), false)))
}

/// Reads a key that is not the current one; `None` if it is gone.
async fn read_other(
    guard: &RoleGuard<'_>,
    role: &RotatingRole,
    hash: &KeyHash,
    counting: Counting,
) -> Result<Option<Reading>, Error> {
    let engine = guard.engine();
    let link = engine
        .links
        .open(&*engine.storage, connection_of(role, hash));
    let link = link.await?;
    match link.client(Urgency::Ordinary).await.key(hash).await {
        Ok(key) => {
            spending::note(engine, guard.name(), &key);
            Ok(Some(of_key(&key, counting)))
        }
        Err(openrouter::Error::NotFound { .. }) => Ok(None),
        Err(reason) => Err(while_reading(hash)(reason)),
    }
}

/// The connection through which a role's key was made. For a key that is not in the role's entry, the
/// connection of the definition.
fn connection_of<'a>(role: &'a RotatingRole, hash: &KeyHash) -> &'a ConnectionName {
    let mut keys = role.keys();
    keys.find(|(own, _)| *own == hash)
        .map_or(&role.definition.terms.connection, |(_, connection)| {
            connection
        })
}

fn while_reading(hash: &KeyHash) -> impl FnOnce(openrouter::Error) -> Error {
    Error::while_doing(format!("what key {hash} has spent cannot be read"))
}

/// A limit call on one of the role's keys.
struct Work<'a, 'g> {
    guard: &'a RoleGuard<'g>,
    role: &'a mut RotatingRole,
    urgency: Urgency,
}

impl<'a, 'g> Work<'a, 'g> {
    fn on(guard: &'a RoleGuard<'g>, role: &'a mut RotatingRole, urgency: Urgency) -> Self {
        Self {
            guard,
            role,
            urgency,
        }
    }

    /// Enters a call into the ledger. The role must be stored before the call is sent.
    fn begin(&mut self, hash: &KeyHash, to: Amount) -> Option<Begun> {
        let (budget, counting) = self.role.definition.terms.budget()?;
        let now = self.guard.engine().now();
        let ledger = self.role.ledger.as_mut()?;
        ledger.begin(hash, to, (&budget, counting), now)
    }

    /// Sends a call that was stored, and enters its outcome.
    async fn send(&mut self, begun: Begun, lags: bool) -> Result<(), Error> {
        let engine = self.guard.engine();
        let connection = connection_of(self.role, begun.hash());
        let link = engine.links.open(&*engine.storage, connection).await?;
        let turn = link.client(self.urgency).await;
        let limits = begun.limits();
        let patched = turn.update_limits(begun.hash(), &limits).await;
        drop(turn);
        let hash = begun.hash().clone();
        let is_current = hash == self.role.current.hash;
        let doing =
            || format!("the limit of key {hash} could not be changed for the role's budget");
        match patched {
            Ok(key) if key.limits.agree_with(&limits) => {
                self.confirm(begun, &key, lags);
                if is_current {
                    self.role.current.limits = limits;
                    self.role.current.limits_unproved = false;
                }
                Ok(())
            }
            Ok(_) => Err(Error::OpenRouter {
                doing: doing(),
                reason: openrouter::Error::Unclear {
                    reason: "its answer shows other limits than were asked for".to_owned(),
                    retry_after: None,
                },
            }),
            Err(reason) => {
                if reason.is_definite()
                    && let Some(ledger) = &mut self.role.ledger
                {
                    ledger.refuse(begun);
                }
                Err(Error::while_doing(doing())(reason))
            }
        }
    }

    fn confirm(&mut self, begun: Begun, key: &Key, lags: bool) {
        let now = self.guard.engine().now();
        let Some((_, counting)) = self.role.definition.terms.budget() else {
            return;
        };
        if let Some(ledger) = &mut self.role.ledger {
            ledger.confirm(begun, of_key(key, counting), lags, now);
        }
    }
}

/// In seconds. What a key spends in so short a time after a reading counts as in flight.
const AT_ONCE: u64 = 2;
