//! The engine's effects on the outside world, point by point, and the harm that is done at one of them.
//!
//! Storage and the gate to OpenRouter report before and after each of their effects. The run itself therefore
//! writes the list of points: a step that is added to the engine later is on it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The harm that can be done at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Harm {
    /// The node is dead: it stops there, forever.
    Crash,
    /// This one call fails, and the node stays alive: storage reports an error, or a connection is reset. The
    /// effect before it, if there was one, stays.
    Fault,
}

/// All effects of a world, on any node.
#[derive(Default)]
pub(crate) struct Effects {
    plan: Mutex<Plan>,
    after_writes: Mutex<Option<AfterWrites>>,
    crashes: watch::Sender<usize>,
    /// The key whose reads fail.
    lost_reads: Mutex<Option<String>>,
}

type AfterWrites = Box<dyn Fn() + Send>;

#[derive(Default)]
struct Plan {
    recording: Option<Recording>,
    /// The name of a point, and the harm to do there once.
    planned: Option<(String, Harm)>,
    /// Every point that was reached, and the harm that was done there.
    story: Vec<String>,
}

struct Recording {
    points: Vec<String>,
    harm: Harm,
    at: Option<usize>,
}

impl Effects {
    /// Records the points at which `harm` could be done. Does it at the point with that number.
    pub(crate) fn record(&self, harm: Harm, at: Option<usize>) {
        let points = Vec::new();
        self.plan.lock().unwrap().recording = Some(Recording { points, harm, at });
    }

    /// Ends the recording, and cancels any remaining harm. Returns the points.
    pub(crate) fn stop(&self) -> Vec<String> {
        let recording = self.plan.lock().unwrap().recording.take();
        recording.map_or_else(Vec::new, |recording| recording.points)
    }

    /// Runs `something` without recording it. Nothing else may be in progress.
    pub(crate) async fn aside<T>(&self, something: impl Future<Output = T>) -> T {
        let recording = self.plan.lock().unwrap().recording.take();
        let result = something.await;
        self.plan.lock().unwrap().recording = recording;
        result
    }

    /// Makes the node die at the next point with that name.
    pub(crate) fn die_at(&self, name: &str) {
        self.harm_once_at(name, Harm::Crash);
    }

    /// Makes the next call at a point with that name fail.
    pub(crate) fn fail_at(&self, name: &str) {
        self.harm_once_at(name, Harm::Fault);
    }

    fn harm_once_at(&self, name: &str, harm: Harm) {
        self.plan.lock().unwrap().planned = Some((name.to_owned(), harm));
    }

    /// From now on every read of this key fails; of `None`, no read.
    pub(crate) fn lose_reads_of(&self, key: Option<&str>) {
        *self.lost_reads.lock().unwrap() = key.map(str::to_owned);
    }

    /// Whether reads of the key fail.
    pub(super) fn loses_reads_of(&self, key: &str) -> bool {
        self.lost_reads.lock().unwrap().as_deref() == Some(key)
    }

    /// Has this done after each write to storage, before anything can strike there.
    pub(crate) fn do_after_writes(&self, something: impl Fn() + Send + 'static) {
        *self.after_writes.lock().unwrap() = Some(Box::new(something));
    }

    /// Storage was written.
    pub(super) fn written(&self) {
        if let Some(something) = &*self.after_writes.lock().unwrap() {
            something();
        }
    }

    /// Every point that was reached so far, recorded or not, to find out why something does not end.
    pub(crate) fn story(&self) -> Vec<String> {
        self.plan.lock().unwrap().story.clone()
    }

    /// Runs `something`, and abandons it when a node crashes. Returns whether one did.
    ///
    /// A wait for a dead node to become idle ends too. The end of `something` therefore does not show that no
    /// node has crashed.
    pub(crate) async fn crash_during(&self, something: impl Future<Output = ()>) -> bool {
        let mut crashes = self.crashes.subscribe();
        tokio::select! {
            crashed = crashes.changed() => crashed.map(|()| true),
            () = something => crashes.has_changed(),
        }
        .expect("the world outlives its nodes")
    }

    /// Returns when a node crashes.
    pub(crate) async fn crash(&self) {
        let mut crashes = self.crashes.subscribe();
        let crashed = crashes.changed().await;
        crashed.expect("the world outlives its nodes");
    }

    /// A node has reached the point `name`, next to an effect. `Err` is a fault that the caller reports in
    /// its own way.
    pub(super) async fn reach(&self, life: &Life, name: String) -> Result<(), Struck> {
        life.checkpoint().await;
        life.act();
        let harm = self.plan.lock().unwrap().harm_at(name);
        if harm == Some(Harm::Crash) {
            life.end();
            self.crashes.send_modify(|crashes| *crashes += 1);
        }
        life.checkpoint().await;
        match harm {
            Some(Harm::Fault) => Err(Struck),
            _ => Ok(()),
        }
    }

    /// The same for a point without an effect: to die there is to die after the previous effect.
    pub(super) async fn reach_harmless(&self, life: &Life, name: String) -> Result<(), Struck> {
        let harm = self.plan.lock().unwrap().recording.as_ref().map(|r| r.harm);
        match harm {
            Some(Harm::Fault) => self.reach(life, name).await,
            _ => Ok(()),
        }
    }
}

impl Plan {
    fn harm_at(&mut self, name: String) -> Option<Harm> {
        self.story.push(name.clone());
        let harm = self.planned_at(name);
        self.story.extend(harm.map(|harm| format!("{harm:?}")));
        harm
    }

    fn planned_at(&mut self, name: String) -> Option<Harm> {
        if let Some((_, harm)) = self.planned.take_if(|(point, _)| *point == name) {
            return Some(harm);
        }
        let recording = self.recording.as_mut()?;
        let strikes = recording.at == Some(recording.points.len());
        recording.points.push(name);
        strikes.then_some(recording.harm)
    }
}

/// A fault was injected.
#[derive(Debug)]
pub(super) struct Struck;

/// Whether a node is alive, and whether it is busy.
#[derive(Default)]
pub(crate) struct Life {
    over: CancellationToken,
    acts: AtomicU64,
    busy: AtomicUsize,
}

impl Life {
    /// Ends the node's life.
    pub(crate) fn end(&self) {
        self.over.cancel();
    }

    /// Passes as long as the node is alive. A dead node stops here forever, without cleaning up or notifying
    /// anyone.
    pub(super) async fn checkpoint(&self) {
        if self.over.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }

    /// The node did something. Returns how often it has.
    pub(super) fn act(&self) -> u64 {
        self.acts.fetch_add(1, Ordering::Relaxed)
    }

    /// The node waits for another party until the result is dropped.
    pub(super) fn busy(&self) -> Busy<'_> {
        self.act();
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(self)
    }

    /// Returns when the node has nothing to do before the clock moves. The node and everything that it talks
    /// to run on one thread, so a few rounds in which nothing happens are proof.
    pub(crate) async fn quiet(&self) {
        let mut calm = 0;
        while calm < ROUNDS && !self.over.is_cancelled() {
            let before = self.acts.load(Ordering::Relaxed);
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            for _ in 0..YIELDS {
                tokio::task::yield_now().await;
            }
            let idle = self.busy.load(Ordering::Relaxed) == 0;
            let unchanged = self.acts.load(Ordering::Relaxed) == before;
            calm = if idle && unchanged { calm + 1 } else { 0 };
        }
    }
}

/// See [`Life::busy`].
pub(super) struct Busy<'a>(&'a Life);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.act();
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

const ROUNDS: u32 = 2;
const YIELDS: u32 = 30;
