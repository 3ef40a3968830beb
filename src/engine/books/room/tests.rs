//! What counts in a budget, once each, and when there is room again.

use jiff::SignedDuration;
use serde_json::json;

use super::*;
use crate::engine::books::leases::Record;
use crate::logical::MemoryStorage;
use crate::openrouter::LimitReset;

fn noon() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

fn usd(amount: f64) -> Amount {
    Amount::granted(amount)
}

fn nonce(number: u64) -> Nonce {
    Nonce::of_key_name(&format!("ci vault-{number:032x}")).unwrap()
}

/// A lease with a grant of this many dollars that ends at this time.
fn record(number: u64, grant: f64, until: Timestamp) -> Record {
    let record = json!({
        "nonce": nonce(number),
        "role": "ci",
        "connection": "default",
        "key_hash": format!("{number:064x}"),
        "until": until,
        "grant": usd(grant),
    });
    serde_json::from_value(record).unwrap()
}

/// The mount, and a role's budget of ten dollars.
struct Given {
    leases: Arc<Leases>,
    intents: Intents,
    storage: MemoryStorage,
    role: RoleName,
    budget: Budget,
}

impl Given {
    fn new(reset: Option<LimitReset>) -> Self {
        Self {
            leases: Arc::default(),
            intents: Intents::default(),
            storage: MemoryStorage::default(),
            role: RoleName::new("ci").unwrap(),
            budget: Budget {
                amount: usd(10.0),
                reset,
            },
        }
    }

    fn wanted<'a>(&'a self, amount: f64, pool: Option<&'a Pool>) -> Wanted<'a> {
        Wanted {
            role: &self.role,
            amount: usd(amount),
            budget: &self.budget,
            pool,
            now: noon(),
        }
    }

    fn reserve(&self, amount: f64) -> Reservation {
        let wanted = self.wanted(amount, None);
        self.leases.reserve(&wanted, &self.intents).ok().unwrap()
    }

    fn left(&self) -> Amount {
        self.leases.left(&self.wanted(1.0, None), &self.intents)
    }

    async fn begin(&self, record: Record) {
        let begun = self.leases.begin(&self.storage, record, noon());
        begun.await.unwrap();
    }

    /// The pool after a lease has ended that spent this much.
    fn ended(&self, spent: f64) -> Pool {
        let mut pool = Pool::begun(&self.budget, noon());
        pool.count(nonce(9), None, usd(spent), (&self.budget, noon()));
        pool
    }

    /// What someone is told who wants one dollar more than there is.
    fn refusal(&self, pool: Option<&Pool>) -> (String, Option<u64>) {
        let wanted = self.wanted(1.0, pool);
        match self.leases.reserve(&wanted, &self.intents) {
            Err(Error::Full {
                message,
                retry_after,
            }) => (message, retry_after),
            _ => panic!("there is room"),
        }
    }
}

#[tokio::test]
async fn a_lease_counts_once_from_its_order_on() {
    let given = Given::new(None);
    let reservation = given.reserve(4.0);
    assert_eq!(given.left(), usd(6.0));
    reservation.made(&nonce(1));
    assert_eq!(given.left(), usd(6.0), "there is no record yet");
    given.begin(record(1, 4.0, noon())).await;
    assert_eq!(given.left(), usd(6.0));
    drop(reservation);
    assert_eq!(given.left(), usd(6.0));
}

#[test]
fn what_ended_leases_have_spent_counts_as_it_was_stored_last() {
    let given = Given::new(None);
    let pool = given.ended(3.0);
    given.leases.note_pool(&given.role, Some(&pool));
    assert_eq!(given.left(), usd(7.0));
    given.leases.note_pool(&given.role, None);
    assert_eq!(given.left(), usd(10.0));
    given.leases.note_pool(&given.role, Some(&pool));
    given.leases.forget();
    assert_eq!(given.left(), usd(10.0), "another node may have stored more");
}

#[tokio::test]
async fn the_refusal_says_what_can_make_room() {
    let daily = Some(LimitReset::Daily);
    let a_lease = ("a lease has to end first", None);
    // The window ends at midnight, and one minute later it is over at OpenRouter too.
    let window = ("room at 2026-11-21T00:01:00Z", Some(12 * 3600 + 60 + 1));
    let nothing = ("the budget has to be raised first", None);
    // What ended leases have spent, what one that is being issued takes, and the answer.
    for (reset, ended, coming, (told, retry_after)) in [
        (daily, 0.0, 10.0, a_lease),
        (daily, 10.0, 0.0, window),
        (daily, 5.0, 5.0, window),
        (None, 10.0, 0.0, nothing),
        (None, 9.0, 1.0, a_lease),
    ] {
        let given = Given::new(reset);
        let _coming = given.reserve(coming);
        let (message, retry) = given.refusal(Some(&given.ended(ended)));
        assert!(message.contains(told), "{ended} {coming}: {message}");
        assert_eq!(retry, retry_after, "{ended} {coming}");
    }
}

#[tokio::test]
async fn a_lease_that_should_have_been_settled_by_now_does_not_say_when() {
    let settled_in = |seconds: i64| {
        let settles = SignedDuration::from_secs(seconds - SETTLED.cast_signed());
        noon().checked_add(settles).unwrap()
    };
    for (seconds, told, retry_after) in [
        (-1, "a lease has to end first", None),
        (0, "a lease has to end first", None),
        (1, "there will be room at 2026-11-20T12:00:01Z", Some(2)),
    ] {
        let given = Given::new(None);
        given.begin(record(1, 10.0, settled_in(seconds))).await;
        let (message, retry) = given.refusal(None);
        assert!(message.contains(told), "{seconds}: {message}");
        assert_eq!(retry, retry_after, "{seconds}");
    }
}
