//! What the engine on a server is told of changed entries: on time, late, twice, or not at all.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::node::MOUNT;
use crate::world::World;

/// What becomes of the news of a change.
#[derive(Clone, Copy)]
enum Fate {
    OnTime,
    Late,
    Doubled,
    Lost,
}

impl World {
    /// Tells the engine on this server of each change that the server sees.
    pub(super) async fn tell_engine(self: Arc<Self>, server: usize) {
        let changed = self.raft.followers(|followers| followers.changed(server));
        loop {
            let (untold, next) = self
                .raft
                .followers(|followers| (followers.untold(server), followers.next(server)));
            for key in untold {
                self.tell(server, &key).await;
            }
            let wait = next.map(|next| next.duration_since(self.now()));
            match wait {
                Some(wait) if wait.is_positive() => {
                    let wait = Duration::try_from(wait).unwrap_or_default();
                    tokio::select! {
                        biased;
                        () = changed.notified() => {}
                        () = sleep(wait) => {}
                    }
                }
                Some(_) => {}
                None => changed.notified().await,
            }
        }
    }

    async fn tell(self: &Arc<Self>, server: usize, key: &str) {
        let dice = &self.standbys.dice;
        let key = key.trim_start_matches(MOUNT);
        let fate = dice.weighted(&[
            (4, Fate::OnTime),
            (2, Fate::Late),
            (1, Fate::Doubled),
            (2, Fate::Lost),
        ]);
        match fate {
            Fate::OnTime | Fate::Doubled => {
                let told = u64::from(self.invalidate(server, key).await);
                self.standbys.count(|counted| counted.told += told);
            }
            Fate::Late => self.story_of(server, key, "is told later"),
            Fate::Lost => {
                self.story_of(server, key, "is not told");
                let lost = u64::from(self.standby(server).is_some());
                self.standbys.count(|counted| counted.untold += lost);
            }
        }
        if matches!(fate, Fate::Late | Fate::Doubled) {
            let (world, pause, key) = (Arc::clone(self), dice.pause(50, 90_000), key.to_owned());
            tokio::spawn(async move {
                sleep(pause).await;
                let told = u64::from(world.invalidate(server, &key).await);
                world.standbys.count(|counted| counted.told_late += told);
            });
        }
    }

    /// Tells the engine, whatever the server is by now. Returns whether it is a standby.
    async fn invalidate(&self, server: usize, key: &str) -> bool {
        let standby = self.standby(server);
        let node = match &standby {
            Some(standby) => Arc::clone(&standby.node),
            None => match self.active().filter(|active| active.server == server) {
                Some(active) => active,
                None => return false,
            },
        };
        tokio::select! {
            biased;
            () = node.backend.invalidate(key) => {}
            () = node.life.ended() => return false,
        }
        if let Some(standby) = &standby {
            standby.was_told(key, self.now());
        }
        standby.is_some()
    }

    fn story_of(&self, server: usize, key: &str, what: &str) {
        let about = key.rsplit('/').next().unwrap_or_default();
        let told = format!("S{server} {what} that {key} has changed");
        self.story.tell_of(&[about], told);
    }
}
