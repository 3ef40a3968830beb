//! What the budgets of dynamic roles have room for.
//!
//! A lease that is coming is reserved before its key is ordered, until its record says what it may spend;
//! an order whose outcome is unknown counts by its intent. So there is no moment at which a key that may
//! be alive does not count, and a hundred readers at once share what one of them could have.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::intents::{Intents, Purpose};
use super::leases::{Leases, Record};
use crate::engine::clock::after;
use crate::engine::error::Error;
use crate::engine::names::{Nonce, RoleName};
use crate::engine::role::budget::{Amount, Budget, Pool, SETTLED};

/// What leases that are coming were promised, and what ended ones have spent.
#[derive(Default)]
pub(super) struct Room(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    reserved: HashMap<u64, Reserved>,
    next: u64,
    /// As they were stored last by this process. A role's entry that somebody read may be older.
    pools: HashMap<RoleName, Pool>,
}

struct Reserved {
    role: RoleName,
    amount: Amount,
    /// Of the key, once it is known: then the lease's record counts as soon as there is one.
    nonce: Option<Nonce>,
}

/// A lease that is wanted under a budget.
pub struct Wanted<'a> {
    /// Of which role.
    pub role: &'a RoleName,
    /// What its key may spend.
    pub amount: Amount,
    /// The role's budget.
    pub budget: &'a Budget,
    /// What the role's ended leases have spent, as its entry was read.
    pub pool: Option<&'a Pool>,
    /// When it is wanted.
    pub now: Timestamp,
}

/// What a lease that is coming was promised, for as long as this lives.
pub struct Reservation {
    leases: Arc<Leases>,
    id: u64,
}

impl Reservation {
    /// The key is made, with this nonce. Its record will count in the place of this.
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

    /// Forgets what storage has as well.
    pub(super) fn forget(&self) {
        self.kept().pools.clear();
    }
}

impl Leases {
    /// Reserves what one more lease may spend of its role's budget.
    ///
    /// # Errors
    /// [`Error::Full`] when there is not that much left, with when there will be.
    pub fn reserve(
        self: &Arc<Self>,
        wanted: &Wanted<'_>,
        intents: &Intents,
    ) -> Result<Reservation, Error> {
        let mut kept = self.room.kept();
        let taken = self.taken(&kept, wanted, intents);
        let left = wanted.budget.amount.minus(taken.in_all());
        if wanted.amount > left {
            return Err(full(wanted, left, &taken));
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

    /// How much one more lease of a role could have.
    pub fn left(&self, wanted: &Wanted<'_>, intents: &Intents) -> Amount {
        let taken = self.taken(&self.room.kept(), wanted, intents);
        wanted.budget.amount.minus(taken.in_all())
    }

    fn taken(&self, kept: &Kept, wanted: &Wanted<'_>, intents: &Intents) -> Taken {
        // Before the pool: a lease that ends is counted there before its record goes.
        let living: Vec<Record> = self.all().filter(|r| r.key.role == *wanted.role).collect();
        let has_record: HashSet<&Nonce> = living.iter().map(|r| &r.key.nonce).collect();
        let pool = kept.pools.get(wanted.role).or(wanted.pool);
        let is_counted = |lease: &Nonce| pool.is_some_and(|pool| pool.has_counted(lease));
        let alive = living.iter().filter(|r| !is_counted(&r.key.nonce));
        let alive: Amount = alive.map(|r| r.grant.unwrap_or(Amount::UNLIMITED)).sum();
        let adrift = intents.adrift_of(wanted.role).into_iter();
        let adrift = adrift
            .map(|written| written.data)
            .filter(|i| i.purpose == Purpose::Lease && !has_record.contains(&i.nonce));
        let adrift: Amount = adrift.map(|i| i.grant.unwrap_or(Amount::UNLIMITED)).sum();
        let coming = kept.reserved.values().filter(|reserved| {
            let has_record = |nonce| has_record.contains(nonce);
            reserved.role == *wanted.role && !reserved.nonce.as_ref().is_some_and(has_record)
        });
        let coming: Amount = coming.map(|reserved| reserved.amount).sum();
        let ended = pool.map_or(Amount::ZERO, |pool| pool.ended(wanted.now));
        let given_back = living.iter();
        let given_back = given_back.map(|r| after(r.ended.unwrap_or(r.until), SETTLED));
        Taken {
            by_ended: ended,
            by_others: [alive, adrift, coming].into_iter().sum(),
            given_back_at: given_back.min(),
            resets_at: pool
                .and_then(Pool::ends_at)
                .filter(|_| ended > Amount::ZERO),
        }
    }

    /// What a role's ended leases have spent was stored. To be called before a record goes that is counted
    /// there; `None` for a role without a budget, or that is gone.
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
    /// What living leases, and those that are coming or unclear, may spend.
    by_others: Amount,
    /// When the first lease can give back what it did not spend.
    given_back_at: Option<Timestamp>,
    /// When what ended leases have spent counts no more.
    resets_at: Option<Timestamp>,
}

impl Taken {
    fn in_all(&self) -> Amount {
        self.by_ended.plus(self.by_others)
    }
}

/// The refusal. There is room again when a lease that ends has given back what it did not spend, if that
/// can be enough, or when the next window begins.
fn full(wanted: &Wanted<'_>, left: Amount, taken: &Taken) -> Error {
    let can_be_enough = taken.by_ended.plus(wanted.amount) <= wanted.budget.amount;
    let given_back = taken.given_back_at.filter(|_| can_be_enough);
    let when = match given_back.into_iter().chain(taken.resets_at).min() {
        Some(at) => format!("there will be room at {at} at the earliest"),
        None if can_be_enough => "a lease has to end first".to_owned(),
        None => "the budget has to be raised first".to_owned(),
    };
    Error::Full(format!(
        "the budget of role {:?} has {} US dollars left that no lease has, and a lease takes {}; {when}",
        wanted.role.to_string(),
        left.as_usd(),
        wanted.amount.as_usd(),
    ))
}
