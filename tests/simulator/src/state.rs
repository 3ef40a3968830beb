//! The state of the simulator: the accounts, their keys and management keys.
//!
//! Handlers and account handles use it through [`Shared`]. The rules for the owner of a token and for
//! the keys of a list are here; HTTP is not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::assignments::Assignment;
use crate::billing::Billing;
use crate::clock::Clock;
use crate::guardrails::Guardrail;
use crate::hiding::ListDelay;
use crate::keys::{Key, NewKey};
use crate::management_keys::ManagementKey;
use crate::organization::Owner;
use crate::randomness::{Randomness, clerk_id_from, hash_of};
use crate::requests::{Caller, RequestLog};
use crate::script::FaultScript;
use crate::workspaces::Workspace;

/// The state that all requests, handles and tasks of one simulator share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) randomness: Randomness,
    pub(crate) faults: FaultScript,
    pub(crate) requests: RequestLog,
    pub(crate) billing: Billing,
    latency_ms: AtomicU64,
    accounts: Mutex<Vec<AccountState>>,
}

/// One OpenRouter account.
#[derive(Debug)]
pub(crate) struct AccountState {
    pub(crate) owner: Owner,
    /// The first is the default workspace.
    pub(crate) workspaces: Vec<Workspace>,
    pub(crate) management_keys: Vec<ManagementKey>,
    /// Oldest first, deleted ones included.
    pub(crate) keys: Vec<Key>,
    pub(crate) guardrails: Vec<Guardrail>,
    /// At most one per key, in order of creation.
    pub(crate) assignments: Vec<Assignment>,
    pub(crate) new_keys_hidden: Option<ListDelay>,
}

/// An account's place in the simulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AccountId(pub(crate) usize);

/// The caller of a request, and what the log may contain about it.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) account: Option<AccountId>,
    pub(crate) caller: Caller,
    /// The hash of the accepted key or management key.
    pub(crate) hash: Option<String>,
}

/// The query of `GET /keys`.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    pub(crate) workspace_id: String,
    pub(crate) include_disabled: bool,
    pub(crate) include_expired: bool,
}

impl Shared {
    pub(crate) fn new(clock: Clock, randomness: Randomness, latency: Duration) -> Self {
        let shared = Self {
            clock,
            randomness,
            faults: FaultScript::default(),
            requests: RequestLog::default(),
            billing: Billing::default(),
            latency_ms: AtomicU64::new(0),
            accounts: Mutex::default(),
        };
        shared.set_latency(latency);
        shared
    }

    pub(crate) fn latency(&self) -> Duration {
        Duration::from_millis(self.latency_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn set_latency(&self, latency: Duration) {
        let milliseconds = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        self.latency_ms.store(milliseconds, Ordering::Relaxed);
    }

    pub(crate) fn add_account(&self) -> AccountId {
        let default = self.randomness.uuid();
        // Not random: other tests depend on the sequence of a seed from before accounts had owners.
        let user_id = clerk_id_from("user", &format!("owner of {default}"));
        let (name, slug) = ("Default Workspace".to_owned(), "default".to_owned());
        let default = Workspace::new(default, name, slug, self.clock.now());
        self.accounts(|accounts| {
            accounts.push(AccountState {
                owner: Owner::Person { user_id },
                workspaces: vec![default],
                management_keys: Vec::new(),
                keys: Vec::new(),
                guardrails: Vec::new(),
                assignments: Vec::new(),
                new_keys_hidden: None,
            });
            AccountId(accounts.len() - 1)
        })
    }

    pub(crate) fn account_ids(&self) -> Vec<AccountId> {
        self.accounts(|accounts| (0..accounts.len()).map(AccountId).collect())
    }

    #[expect(
        clippy::expect_used,
        reason = "ids come from add_account and accounts are never removed"
    )]
    pub(crate) fn account<T>(&self, id: AccountId, act: impl FnOnce(&mut AccountState) -> T) -> T {
        self.accounts(|accounts| {
            act(accounts
                .get_mut(id.0)
                .expect("an account of this simulator"))
        })
    }

    /// The owner of this bearer token. For a key that is set to fail a few times, each lookup counts.
    pub(crate) fn identify(&self, token: Option<&str>) -> Identity {
        let Some(token) = token else {
            return Identity {
                account: None,
                caller: Caller::Anonymous,
                hash: None,
            };
        };
        let (digest, now) = (hash_of(token), self.clock.now());
        self.accounts(|accounts| {
            let claims = accounts
                .iter_mut()
                .enumerate()
                .find_map(|(index, account)| {
                    account
                        .identify(&digest, token, now)
                        .map(|claim| (AccountId(index), claim))
                });
            match claims {
                Some((account, (caller, hash))) => Identity {
                    account: hash.is_some().then_some(account),
                    caller,
                    hash,
                },
                None => Identity {
                    account: None,
                    caller: Caller::Unknown,
                    hash: None,
                },
            }
        })
    }

    fn accounts<T>(&self, act: impl FnOnce(&mut Vec<AccountState>) -> T) -> T {
        act(&mut self.accounts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl AccountState {
    /// The newest of several keys with one hash, which only a fault can cause.
    pub(crate) fn living(&mut self, hash: &str) -> Option<&mut Key> {
        self.keys
            .iter_mut()
            .rev()
            .find(|key| key.deleted_at.is_none() && key.hash == hash)
    }

    /// The newest key with this hash, living or deleted.
    pub(crate) fn key(&self, hash: &str) -> Option<&Key> {
        self.keys.iter().rev().find(|key| key.hash == hash)
    }

    pub(crate) fn management_key(&mut self, hash: &str) -> Option<&mut ManagementKey> {
        self.management_keys.iter_mut().find(|key| key.hash == hash)
    }

    pub(crate) fn default_workspace(&self) -> String {
        let default = self.workspaces.first();
        default
            .map(|workspace| workspace.id.clone())
            .unwrap_or_default()
    }

    pub(crate) fn create(&mut self, new: NewKey, secret: String, now: Timestamp) -> &mut Key {
        let workspace = new
            .workspace_id
            .clone()
            .unwrap_or_else(|| self.default_workspace());
        let mut key = Key::new(new, workspace, secret, now);
        let creator = key.creator_user_id.take();
        key.creator_user_id = creator.or_else(|| self.owner.default_creator());
        key.hidden = self.new_keys_hidden.map(|delay| delay.starting(now));
        self.keys.push(key);
        let last = self.keys.len() - 1;
        #[expect(clippy::indexing_slicing, reason = "it was pushed two lines above")]
        &mut self.keys[last]
    }

    /// A page of the keys of a list, newest first, starting at an offset. For hidden keys before its
    /// end, the page counts as one list.
    pub(crate) fn page(
        &mut self,
        selection: &Selection,
        offset: usize,
        length: usize,
        now: Timestamp,
    ) -> Vec<&Key> {
        let newest_first = self.keys.iter_mut().rev();
        let shown = newest_first.filter_map(|key| {
            let is_selected = key.deleted_at.is_none()
                && key.workspace_id == selection.workspace_id
                && (selection.include_disabled || !key.disabled)
                && (selection.include_expired || !key.is_expired(now));
            (is_selected && !key.stays_hidden(now)).then_some(&*key)
        });
        shown.skip(offset).take(length).collect()
    }

    fn identify(
        &mut self,
        digest: &str,
        token: &str,
        now: Timestamp,
    ) -> Option<(Caller, Option<String>)> {
        let refused = |label: &str| {
            (
                Caller::Refused {
                    label: label.to_owned(),
                },
                None,
            )
        };
        if let Some(management_key) = self.management_key(digest) {
            let label = management_key.label.clone();
            return Some(match management_key.is_usable(now) {
                true => (Caller::Management { label }, Some(digest.to_owned())),
                false => refused(&label),
            });
        }
        // By the secret, not the hash, which a fault may have falsified.
        let key = self
            .keys
            .iter_mut()
            .rev()
            .find(|key| key.secret() == token)?;
        Some(match key.is_usable(now) && key.accepts_its_secret() {
            true => (
                Caller::Key {
                    hash: key.hash.clone(),
                },
                Some(key.hash.clone()),
            ),
            false => refused(&key.label),
        })
    }
}
