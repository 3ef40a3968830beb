//! The remaining room in the budgets of dynamic roles.
//!
//! A lease that is being issued has a reservation, from before its key is ordered until its record counts. An
//! order with an unknown outcome counts by its intent. So a key that may be alive counts at any moment, and a
//! hundred concurrent readers share what is left.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::intents::{Intents, Purpose};
use super::leases::Leases;
use crate::engine::clock::{after, seconds_until};
use crate::engine::error::Error;
use crate::engine::names::{Nonce, RoleName};
use crate::engine::role::budget::{Amount, Budget, Pool, SETTLED};

/// The amounts reserved for leases being issued, and the spending of ended leases.
#[derive(Default)]
pub(super) struct Room(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    reserved: HashMap<u64, Reserved>,
    next: u64,
    /// The pools as this process stored them last. A role's entry that was read may be older.
    pools: HashMap<RoleName, Pool>,
}

struct Reserved {
    role: RoleName,
    amount: Amount,
    /// The nonce of the key, once it is known: the lease's record then counts as soon as it exists.
    nonce: Option<Nonce>,
}

/// A request for a lease under a budget.
pub struct Wanted<'a> {
    /// The role.
    pub role: &'a RoleName,
    /// What its key may spend.
    pub amount: Amount,
    /// The role's budget.
    pub budget: &'a Budget,
    /// What the role's ended leases have spent, according to its entry.
    pub pool: Option<&'a Pool>,
    /// The time of the request.
    pub now: Timestamp,
}

/// The amount reserved for a lease that is being issued, while this lives.
pub struct Reservation {
    leases: Arc<Leases>,
    id: u64,
}

impl Reservation {
    /// Records that the key was made with this nonce. Its record then counts instead of the reservation.
    pub fn made(&self, nonce: &Nonce) {
        if let Some(reserved) = self.leases.room.kept().reserved.get_mut(&self.id) {
            reserved.nonce = Some(nonce.clone());
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.leases.room.kept().reserved.remove(&self.id);
    }
}

impl Room {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what is also in storage.
    pub(super) fn forget(&self) {
        self.kept().pools.clear();
    }
}

impl Leases {
    /// Reserves what one more lease may spend of its role's budget.
    ///
    /// # Errors
    /// [`Error::Full`] if less than that is left. The message says when there will be room.
    pub fn reserve(
        self: &Arc<Self>,
        wanted: &Wanted<'_>,
        intents: &Intents,
    ) -> Result<Reservation, Error> {
        let mut kept = self.room.kept();
        let taken = self.taken(&kept, wanted, intents);
        let left = wanted.budget.amount.minus(taken.in_all());
        if wanted.amount > left {
            return Err(full(wanted, left, &taken, self.given_back_at(wanted)));
        }
        let id = kept.next;
        kept.next = id.wrapping_add(1);
        let reserved = Reserved {
            role: wanted.role.clone(),
            amount: wanted.amount,
            nonce: None,
        };
        kept.reserved.insert(id, reserved);
        Ok(Reservation {
            leases: Arc::clone(self),
            id,
        })
    }

    /// The amount that one more lease of a role could have.
    pub fn left(&self, wanted: &Wanted<'_>, intents: &Intents) -> Amount {
        let taken = self.taken(&self.room.kept(), wanted, intents);
        wanted.budget.amount.minus(taken.in_all())
    }

    fn taken(&self, kept: &Kept, wanted: &Wanted<'_>, intents: &Intents) -> Taken {
        let pool = kept.pools.get(wanted.role).or(wanted.pool);
        let adrift = intents.adrift_of(wanted.role).into_iter();
        let adrift = adrift.map(|written| written.data);
        let adrift = adrift.filter(|intent| intent.purpose == Purpose::Lease);
        let coming = kept.reserved.values();
        let coming = coming.filter(|reserved| reserved.role == *wanted.role);
        let by_others = self.log.inspect(|by_role, records| {
            let record = |lease: &Nonce| Some(&records.get(lease.as_str())?.data);
            let mut alive = by_role.granted(wanted.role);
            // A lease that ends is counted in the pool before its record is deleted.
            let counted = pool.into_iter().flat_map(Pool::counted);
            for record in counted.filter_map(record) {
                alive.remove(record.may_spend());
            }
            let adrift = adrift.filter(|intent| record(&intent.nonce).is_none());
            let adrift = adrift.map(|intent| intent.grant.unwrap_or(Amount::UNLIMITED));
            let has_record = |reserved: &Reserved| reserved.nonce.as_ref().and_then(record);
            let coming = coming.filter(|reserved| has_record(reserved).is_none());
            let coming = coming.map(|reserved| reserved.amount);
            alive.amount().plus(adrift.chain(coming).sum())
        });
        let ended = pool.map_or(Amount::ZERO, |pool| pool.ended(wanted.now));
        Taken {
            by_ended: ended,
            by_others,
            resets_at: pool
                .and_then(|pool| pool.ends_at(wanted.now))
                .filter(|_| ended > Amount::ZERO),
        }
    }

    /// When the first lease of a role can return what it did not spend.
    fn given_back_at(&self, wanted: &Wanted<'_>) -> Option<Timestamp> {
        let of_role = self.matching(|record| record.key.role == *wanted.role);
        let ends = of_role.map(|record| after(record.ended.unwrap_or(record.until), SETTLED));
        // An overdue end does not say when it will succeed.
        ends.filter(|at| *at > wanted.now).min()
    }

    /// Records the stored spending of a role's ended leases. Must be called before the record of a lease that
    /// is counted there is deleted. `None` for a role that has no budget or is gone.
    pub fn note_pool(&self, role: &RoleName, pool: Option<&Pool>) {
        let mut kept = self.room.kept();
        match pool {
            Some(pool) => _ = kept.pools.insert(role.clone(), pool.clone()),
            None => _ = kept.pools.remove(role),
        }
    }
}

/// What is taken out of a role's budget.
struct Taken {
    /// What ended leases have spent.
    by_ended: Amount,
    /// What may be spent by living leases, those being issued, and those with an unknown outcome.
    by_others: Amount,
    /// When the spending of ended leases no longer counts.
    resets_at: Option<Timestamp>,
}

impl Taken {
    fn in_all(&self) -> Amount {
        self.by_ended.plus(self.by_others)
    }
}

/// The error if there is no room. There is room again when a lease that ends has returned what it did not
/// spend, if that can suffice, or when the next window begins.
fn full(
    wanted: &Wanted<'_>,
    left: Amount,
    taken: &Taken,
    given_back_at: Option<Timestamp>,
) -> Error {
    let can_be_enough = taken.by_ended.plus(wanted.amount) <= wanted.budget.amount;
    let given_back = given_back_at.filter(|_| can_be_enough);
    let at = given_back.into_iter().chain(taken.resets_at).min();
    let when = match at {
        Some(at) => format!("there will be room at {at} at the earliest"),
        None if can_be_enough => "a lease has to end first".to_owned(),
        None => "the budget has to be raised first".to_owned(),
    };
    Error::Full {
        message: format!(
            "the budget of role {:?} has {} US dollars left, and a lease takes {}; {when}",
            wanted.role.to_string(),
            left.as_usd(),
            wanted.amount.as_usd(),
        ),
        // Rounded up.
        retry_after: at.map(|at| seconds_until(wanted.now, at).saturating_add(1)),
    }
}

#[cfg(test)]
mod tests;
