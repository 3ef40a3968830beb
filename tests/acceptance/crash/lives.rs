//! One life at every point, side by side, so that one kill hits them all.

use futures::future::join_all;

use super::life::{ASSIGNMENTS, Cause, Life, Point};
use crate::harness::{Client, Reply};

/// A role at every point.
pub(crate) struct Lives {
    /// Those in which a caller waits for the answer.
    asked: Vec<Life>,
    /// Those in which the engine acts on its own.
    own: Vec<Life>,
}

impl Lives {
    /// Brings a role to every point, each in its own mount.
    pub(crate) async fn at_every_point(client: &Client) -> Self {
        // In this order, because the keys of the first lives have to become old enough.
        let own = lives(&OWN, client).await;
        let asked = lives(&ASKED, client).await;
        Self { asked, own }
    }

    /// The engine that made the requests has ended: they continue; see [`Life::go_on`].
    pub(crate) fn go_on(&self) {
        for life in self.all() {
            life.go_on();
        }
    }

    /// Lets OpenRouter answer the requests with a waiting caller.
    pub(crate) fn callers_go_on(&self) {
        self.asked.iter().for_each(Life::finish);
    }

    /// Checks that each caller got what was requested, or was told that the failure was not the caller's:
    /// clients retry a 5xx. The server may let a request finish, repeat it in a new process, or fail it.
    pub(crate) async fn callers_get_it_or_may_ask_again(&mut self) {
        let replies = self.replies().await;
        assert_eq!(replies.len(), ASKED.len());
        for reply in replies {
            let fits = matches!(reply.status(), 200..300 | 500..600);
            assert!(fits, "{reply}");
        }
    }

    /// The answers to the callers who got one.
    pub(crate) async fn replies(&mut self) -> Vec<Reply> {
        let replies = self.asked.iter_mut().map(Life::reply);
        join_all(replies).await.into_iter().flatten().collect()
    }

    /// From now on, uses another node of the same cluster.
    pub(crate) fn reach_through(&mut self, client: &Client) {
        for life in self.own.iter_mut().chain(&mut self.asked) {
            life.mount.reach_through(client.clone());
        }
    }

    /// Checks that the restarted engine keeps its guarantees; see [`Life::is_whole`].
    pub(crate) async fn are_whole(&self) {
        join_all(self.all().map(Life::is_whole)).await;
    }

    fn all(&self) -> impl Iterator<Item = &Life> {
        self.own.iter().chain(&self.asked)
    }
}

/// Brings one life to each point.
pub(super) async fn lives(points: &[Point], client: &Client) -> Vec<Life> {
    let lives = points
        .iter()
        .map(|point| Life::up_to(*point, client.clone()));
    join_all(lives).await
}

const OWN: [Point; 5] = [
    Point::before(Cause::Schedule, "POST", "/keys"),
    Point::after(Cause::Schedule, "POST", "/keys"),
    Point::lost(Cause::Schedule, "GET", "/key"),
    Point::lost(Cause::Retirement, "DELETE", "/keys/*"),
    Point::after(Cause::Retirement, "DELETE", "/keys/*"),
];

const ASKED: [Point; 13] = [
    Point::before(Cause::Creation, "POST", "/keys"),
    Point::after(Cause::Creation, "POST", "/keys"),
    Point::before(Cause::Manual, "POST", "/keys"),
    Point::after(Cause::Manual, "POST", "/keys"),
    Point::lost(Cause::Manual, "GET", "/key"),
    // Created but not assigned; assigned but not verified.
    Point::lost(Cause::Guarded, "POST", ASSIGNMENTS),
    Point::lost(Cause::Guarded, "GET", ASSIGNMENTS),
    Point::lost(Cause::Emergency, "DELETE", "/keys/*"),
    Point::after(Cause::Emergency, "DELETE", "/keys/*"),
    Point::lost(Cause::Limit, "PATCH", "/keys/*"),
    Point::after(Cause::Limit, "PATCH", "/keys/*"),
    Point::lost(Cause::Deletion, "DELETE", "/keys/*"),
    Point::after(Cause::Deletion, "DELETE", "/keys/*"),
];
