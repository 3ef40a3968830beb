//! Vault is away for a minute, right after a rotation. Each client still holds the replaced key, whose grace
//! period ends in that minute. The tests measure how long the key lives after the outage, and when each
//! client has a working key again.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use openrouter_simulator::Key;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::application::Tally;
use crate::harness::{Mount, RaftVault, SOON, eventually, say};

/// The outage, as the clients' applications see it.
pub(crate) struct Minute<'a> {
    mount: &'a Mount,
    clients: usize,
    /// How many applications have used the key that is about to be replaced.
    at_work: Cell<usize>,
    after: RefCell<Option<After>>,
}

/// What is known when Vault is back.
#[derive(Clone)]
struct After {
    /// Before the server was unsealed.
    unsealed: Instant,
    current: String,
}

impl<'a> Minute<'a> {
    /// Gives the mount's role `app` times that let a client go without Vault for five seconds.
    pub(crate) async fn of(mount: &'a Mount, clients: usize) -> Self {
        let fields = json!({
            "rotation_period": "1h", "rotation_grace_period": GRACE, "ttl": TTL.as_secs(),
        });
        mount.role("app", fields).await;
        Self {
            mount,
            clients,
            at_work: Cell::new(0),
            after: RefCell::new(None),
        }
    }

    /// Rotates, stops Vault, and starts it again. The replaced key must then live for another `ttl`.
    pub(crate) async fn passes(&self, vault: &mut RaftVault) {
        let at_work = async || (self.at_work.get() == self.clients).then_some(());
        eventually("every client has the key", SOON, at_work).await;
        let replaced = self.mount.key("app").await;
        self.mount.write("rotate-role/app", json!({})).await.ok();
        let current = self.mount.key("app").await;
        vault.kill();
        sleep(OUTAGE).await;
        vault.start_sealed().await;
        let (unsealed, time) = (Instant::now(), self.now());
        vault.unseal().await;
        *self.after.borrow_mut() = Some(After { unsealed, current });
        let died = async || self.key(&replaced).deleted_at;
        let died = eventually("the replaced key is revoked", SOON, died).await;
        let ttl = SignedDuration::try_from(TTL).unwrap();
        assert!(died >= time + ttl, "unsealed {time}, revoked {died}");
    }

    /// An application uses the key that `current` returns until it has used the current key after the outage.
    /// It must not use a dead key before `ttl` has passed.
    pub(crate) async fn is_survived_by(
        &self,
        client: &str,
        current: impl AsyncFnMut() -> Option<String>,
    ) {
        let mut at_work = false;
        let done = |tally: &Tally| {
            if !at_work && tally.served > 0 {
                at_work = true;
                self.at_work.set(self.at_work.get() + 1);
            }
            let after = self.after.borrow();
            after.as_ref().is_some_and(|after| {
                after.unsealed.elapsed() > TTL && tally.keys.last() == Some(&after.current)
            })
        };
        let used = Tally::of(self.mount, current, done).await;
        let after = self.after.borrow().clone().expect("it is over");
        let refused = used.refused_at.iter();
        let early = refused.filter(|at| **at < after.unsealed + TTL).count();
        assert_eq!(early, 0, "{client} used a dead key");
        say(&format!(
            "{client}: {} s without Vault, {:.1} s of dead uses after that",
            OUTAGE.as_secs(),
            used.longest_dead.as_secs_f64()
        ));
    }

    fn now(&self) -> Timestamp {
        self.mount.openrouter.clock().now()
    }

    fn key(&self, secret: &str) -> Key {
        let keys = self.mount.openrouter.account().all_keys();
        let mut keys = keys.into_iter();
        let key = keys.find(|key| key.secret() == secret);
        key.expect("the key was made")
    }
}

/// The duration of the outage.
const OUTAGE: Duration = Duration::from_secs(60);

/// The role's `ttl`.
const TTL: Duration = Duration::from_secs(10);

/// Its grace period, in seconds.
const GRACE: u64 = 15;
