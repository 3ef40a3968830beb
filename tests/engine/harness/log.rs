//! What the engine logs.

use std::cell::RefCell;
use std::sync::Once;

use tracing::Level;
use tracing::field::{Field, Visit};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

/// The engine's messages of one level that are logged on this thread, on which the whole test runs, from when
/// it began to keep them.
pub(crate) struct Log(());

impl Log {
    pub(crate) fn of_warnings() -> Self {
        Self::of(Level::WARN)
    }

    pub(crate) fn of(level: Level) -> Self {
        KEPT.with_borrow_mut(|kept| *kept = Some((level, Vec::new())));
        Self(())
    }

    /// Whether one of them contains all of these.
    pub(crate) fn has(&self, words: &[&str]) -> bool {
        KEPT.with_borrow(|kept| {
            let mut lines = kept.iter().flat_map(|(_, lines)| lines);
            lines.any(|line| words.iter().all(|word| line.contains(word)))
        })
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        KEPT.with_borrow_mut(|kept| *kept = None);
    }
}

thread_local! {
    static KEPT: RefCell<Option<(Level, Vec<String>)>> = const { RefCell::new(None) };
}

/// Sends the process's log to where each thread keeps it. Must be called before the first engine logs
/// anything: a message that is logged for the first time on one thread, while another installs a subscriber,
/// may never be logged.
pub(super) fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let engine =
            Targets::new().with_target("vault_plugin_secrets_openrouter", LevelFilter::DEBUG);
        let subscriber = tracing_subscriber::registry().with(engine).with(ToThread);
        tracing::subscriber::set_global_default(subscriber).expect("there is no other");
    });
}

struct ToThread;

impl<S: tracing::Subscriber> Layer<S> for ToThread {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        KEPT.with_borrow_mut(|kept| {
            let Some((level, lines)) = kept else { return };
            if event.metadata().level() != level {
                return;
            }
            let mut line = Line::default();
            event.record(&mut line);
            lines.push(line.0);
        });
    }
}

#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        use std::fmt::Write as _;
        write!(self.0, " {field}={value:?}").unwrap();
    }
}
