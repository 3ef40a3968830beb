//! What a read shows of a stored entry: the answer of an engine that only reads, on storage that never
//! changes. It is that of any server, whatever form the entries have.
//!
//! Answers are remembered, since the same entries are looked at again and again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::FutureExt;
use jiff::Timestamp;
use vault_plugin_secrets_openrouter::engine::clock::Clock;
use vault_plugin_secrets_openrouter::engine::factory;
use vault_plugin_secrets_openrouter::logical::{
    Data, Entry, FixedSystemView, Mount, NoEvents, Operation, ReplicationState, Request, Storage,
    StorageError,
};
use vault_plugin_secrets_openrouter::openrouter::{Http, Invalid, Network, Settings};

use crate::node::{MOUNT, UUID};
use crate::raft::{self, Map};
use crate::truth::Rotating;
use crate::world::World;

/// The answers so far, by path and entry.
#[derive(Default)]
pub(crate) struct Views(Mutex<BTreeMap<String, Answers>>);

type Answers = HashMap<Vec<u8>, Option<Arc<View>>>;

/// What a read of a path shows of an entry.
pub(crate) struct View {
    pub(crate) data: Data,
    /// The same, if it is a rotating role.
    pub(crate) rotating: Option<Arc<Rotating>>,
}

impl World {
    /// What a read of this path shows of its entry. This is remembered, so it is of no use for what a read says
    /// about the present.
    pub(crate) fn view(&self, path: &str, entry: &[u8]) -> Option<Arc<View>> {
        let mut known = self.views.0.lock().unwrap();
        let answers = known.entry(path.to_owned()).or_default();
        if let Some(view) = answers.get(entry) {
            return view.clone();
        }
        if answers.len() >= REMEMBERED {
            answers.clear();
        }
        let view = self.view_now(path, path, entry).map(|data| {
            let rotating = Rotating::of(path, &data, entry).map(Arc::new);
            Arc::new(View { data, rotating })
        });
        answers.insert(entry.to_owned(), view.clone());
        view
    }

    /// What a read of a path shows now, if this is all that is stored.
    pub(crate) fn view_now(&self, path: &str, key: &str, entry: &[u8]) -> Option<Data> {
        let map = Map::from([(format!("{MOUNT}{key}"), entry.to_owned())]);
        let clock = Arc::new(Standing(self.now()));
        let make = factory(clock, Arc::clone(&self.dice) as _, Arc::new(NoNetwork));
        let observer = make(Mount {
            storage: Arc::new(Frozen(map)),
            system: Arc::new(FixedSystemView {
                replication_state: ReplicationState::PERFORMANCE_STANDBY,
                ..FixedSystemView::default()
            }),
            events: Arc::new(NoEvents),
            backend_uuid: UUID.to_owned(),
        });
        let answer = observer.handle_request(Request::new(Operation::Read, path));
        let answer = answer.now_or_never().expect("storage does not wait");
        answer.ok().flatten().map(|answer| answer.unfolded().data)
    }
}

/// Storage that never changes.
struct Frozen(Map);

#[async_trait]
impl Storage for Frozen {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.0.get(&format!("{MOUNT}{key}")).cloned())
    }

    async fn put(&self, _: Entry) -> Result<(), StorageError> {
        Err(StorageError::ReadOnly)
    }

    async fn delete(&self, _: &str) -> Result<(), StorageError> {
        Err(StorageError::ReadOnly)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        Ok(raft::list(&self.0, &format!("{MOUNT}{prefix}")))
    }
}

/// Time that does not pass.
struct Standing(Timestamp);

#[async_trait]
impl Clock for Standing {
    fn now(&self) -> Timestamp {
        self.0
    }

    async fn sleep_until(&self, _: Timestamp) {
        std::future::pending().await
    }
}

/// An engine that only reads asks no one.
struct NoNetwork;

impl Network for NoNetwork {
    fn connect(&self, _: &Settings) -> Result<Box<dyn Http>, Invalid> {
        Err(Invalid::HttpClient("an observer has no network".to_owned()))
    }
}

/// How many answers are remembered for each path.
const REMEMBERED: usize = 100;
