//! Standbys that serve reads: servers that do not lead answer for the keys of rotating roles, from what they
//! see of storage, and with what their engines keep in memory.
//!
//! - [`followers`]: what they see. [`node`]: their engines. [`tell`]: what these are told of changes.
//! - [`readers`]: who reads there. [`contract`]: what these may get.
//!
//! # What befalls them
//! - A server is behind: by milliseconds, by up to three seconds, or by up to a minute. Its storage takes up to a
//!   second to answer, and sees changes meanwhile.
//! - Its engine is told of a changed entry when the server sees the change, or later, or twice, or never; and
//!   never of what a restored snapshot changes.
//! - The engine is restarted. The server is elected while reads are under way: their engine is cleaned up, and
//!   another one begins the work.
//!
//! Standbys have no effect on storage or at OpenRouter, and have dice of their own: what leaders do depends on
//! them only where news of a change reach a server that leads by then.
//!
//! # What must hold
//! - **What an engine hands out is what its server sees**, or has seen: not longer ago than a minute or an
//!   eighteenth of the `ttl`, whichever is less, and not since the engine was told of a change. A key that lacks
//!   the guardrail of its role is not handed out.
//! - **Every key lives as promised**, as those that a leader hands out do, see [`witness`](crate::witness), if
//!   the server is behind by no more than another eighteenth of the `ttl`. Else the promise is shorter by what
//!   it is behind beyond that.
//! - **A lease on a shared key is the active server's**: a standby has such a read forwarded.
//! - A standby reads nothing but roles and connections, and asks OpenRouter nothing.
//! - **In the end every standby hands out the current key** of a role that serves.
//!
//! # What is excused, and why
//! - **Keys that an operator has ended at once**, by an emergency, a deletion or a teardown: a standby that has
//!   not heard of it may still hand them out, for as long as the first rule allows.
//! - **A restored snapshot**: what a standby hands out that has not heard of it was promised before it, for the
//!   purpose of what must be kept. So is a key that the snapshot has as current too, if it is handed out for
//!   longer than any version of its role allows from the restore on.
//! - **A server that led a moment ago**: its standby's engine was told so, and may believe it until it is cleaned
//!   up, although another one does the server's work. A lease that it hands out then is none: the server cannot
//!   register it without the storage.

mod contract;
mod followers;
mod node;
mod readers;
mod tell;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::sleep;
use vault_plugin_secrets_openrouter::logical::{Operation, Request};

use crate::dice::Dice;
use crate::raft::SERVERS;
use crate::world::World;

pub(crate) use contract::Counted;
pub(crate) use followers::Followers;
use node::Standby;

/// What there is of standbys in one life.
pub(crate) struct Standbys {
    dice: Arc<Dice>,
    engines: Mutex<[Option<Arc<Standby>>; SERVERS]>,
    counted: Mutex<Counted>,
}

impl Standbys {
    pub(crate) fn new(dice: Dice) -> Self {
        Self {
            dice: Arc::new(dice),
            engines: Mutex::default(),
            counted: Mutex::default(),
        }
    }

    /// There is no standby any more.
    pub(crate) fn end_every_engine(&self) {
        *self.engines.lock().unwrap() = Default::default();
    }

    fn count(&self, count: impl FnOnce(&mut Counted)) {
        count(&mut self.counted.lock().unwrap());
    }
}

impl World {
    /// How often standbys were put to the test.
    pub(crate) fn standbys_counted(&self) -> Counted {
        *self.standbys.counted.lock().unwrap()
    }

    /// Everything that befalls standbys, until nothing is to befall anybody any more.
    pub(crate) async fn standbys_live(self: Arc<Self>) {
        for server in 0..SERVERS {
            self.fall_behind(server);
            tokio::spawn(Arc::clone(&self).tell_engine(server));
        }
        let dice = &self.standbys.dice;
        loop {
            sleep(dice.pause(500, 1_800_000)).await;
            let server = dice.number(0, SERVERS as u64 - 1) as usize;
            match dice.number(0, 9) {
                0..7 => _ = tokio::spawn(Arc::clone(&self).read_at_standby(server)),
                7 | 8 => self.fall_behind(server),
                _ => self.restart_standby(server),
            }
        }
    }

    /// No server is behind any more.
    pub(crate) fn let_standbys_catch_up(&self) {
        for server in 0..SERVERS {
            self.delay(server, SignedDuration::ZERO);
        }
    }

    /// A server is behind by another time from now on.
    fn fall_behind(&self, server: usize) {
        let dice = &self.standbys.dice;
        let longest = dice.weighted(&[(6, 50), (4, 3_000), (1, 60_000)]);
        let lag = SignedDuration::from_millis(dice.number(0, longest).cast_signed());
        self.story
            .tell(format!("S{server} follows {} ms behind", lag.as_millis()));
        self.delay(server, lag);
    }

    fn delay(&self, server: usize, lag: SignedDuration) {
        self.raft
            .followers(|followers| followers.delay(server, lag));
    }

    /// Servers that have neither a leader's engine nor a standby's get one, some time from now.
    pub(crate) fn begin_standbys(self: &Arc<Self>) {
        for server in 0..SERVERS {
            if !self.has_engine(server) {
                let (world, pause) = (Arc::clone(self), self.standbys.dice.pause(300, 20_000));
                tokio::spawn(async move {
                    sleep(pause).await;
                    world.begin_standby(server);
                });
            }
        }
    }

    fn begin_standby(self: &Arc<Self>, server: usize) {
        if self.has_engine(server) {
            return;
        }
        self.story.tell(format!("--- S{server} is a standby"));
        let standby = Arc::new(Standby::new(self, server));
        self.standbys.engines.lock().unwrap()[server] = Some(Arc::clone(&standby));
        let world = Arc::clone(self);
        tokio::spawn(async move {
            let _ = standby.node.backend.initialize().await;
            while world
                .standby(server)
                .is_some_and(|it| Arc::ptr_eq(&it, &standby))
            {
                let tick = Request::new(Operation::Rollback, "");
                let _ = standby.node.backend.handle_request(tick).await;
                sleep(BETWEEN_TICKS).await;
            }
        });
    }

    /// The server leads now: its standby's engine is in the way.
    pub(crate) fn end_standby(self: &Arc<Self>, server: usize) {
        let Some(standby) = self.standbys.engines.lock().unwrap()[server].take() else {
            return;
        };
        for _ in 0..self.standbys.dice.number(0, 2) {
            tokio::spawn(Arc::clone(self).read_from(Arc::clone(&standby)));
        }
        let world = Arc::clone(self);
        tokio::spawn(async move {
            let dice = &world.standbys.dice;
            sleep(dice.pause(1, 100)).await;
            standby.node.backend.cleanup().await;
            sleep(dice.pause(1, 2_000)).await;
            standby.node.life.end();
        });
    }

    /// The plugin's process dies, and is started again.
    fn restart_standby(self: &Arc<Self>, server: usize) {
        let killed = self.standbys.engines.lock().unwrap()[server].take();
        if let Some(standby) = killed {
            standby.node.life.end();
            self.story
                .tell(format!("--- the plugin on S{server}, a standby, is killed"));
            self.begin_standbys();
        }
    }

    /// The engine of a server that is a standby.
    fn standby(&self, server: usize) -> Option<Arc<Standby>> {
        self.standbys.engines.lock().unwrap()[server].clone()
    }

    fn has_engine(&self, server: usize) -> bool {
        let cluster = self.cluster.lock().unwrap();
        let mut deposed = cluster.deposed.iter();
        self.raft.leader() == Some(server)
            || self.standby(server).is_some()
            || deposed.any(|(node, _)| node.server == server && !node.life.is_over())
    }
}

/// A standby's periodic call only looks what its server is; the servers' is more frequent.
const BETWEEN_TICKS: Duration = Duration::from_secs(15 * 60);
