//! Log lines in the format of go-plugin hosts: one JSON object per line on stderr.
//!
//! [`Hclog`] is a layer for `tracing` and can also report panics. The host decodes a line with
//! unchecked assertions and would itself panic if a level, message or time is not a string. So nothing
//! but this file may write to stderr once the plugin runs. All levels are written: the host knows the
//! operator's log level and filters.

use std::fmt;
use std::io::Write;
use std::panic::PanicHookInfo;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Writes events and panics as hclog lines. Clones share the writer.
#[derive(Clone)]
pub struct Hclog {
    shared: Arc<Shared>,
}

/// Which crate's events are written, and under which name.
#[derive(Debug, Clone, Copy)]
pub struct LogSource {
    /// The crate whose events are written, as its module path begins. Events of other crates are
    /// dropped: HTTP/2 and TLS log a lot, and some of it must not be logged.
    pub krate: &'static str,
    /// The prefix of `@module` that replaces the crate's name.
    pub module: &'static str,
}

impl Hclog {
    /// Logs the events of `source` to `writer`, with the time from `clock`.
    pub fn new(
        source: LogSource,
        writer: impl Write + Send + 'static,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Self {
        let (clock, writer) = (Box::new(clock), Mutex::new(Box::new(writer) as _));
        Self {
            shared: Arc::new(Shared {
                source,
                clock,
                writer,
            }),
        }
    }

    /// A panic hook that writes one line with the panic's text and place.
    ///
    /// It does not use `tracing`, because the panic may have happened inside it.
    pub fn panic_hook(&self) -> impl Fn(&PanicHookInfo<'_>) + Send + Sync + 'static {
        let Self { shared } = self.clone();
        move |panic| {
            let mut fields = Map::new();
            let text = panic.payload_as_str().unwrap_or("(no text)");
            fields.insert("panic".into(), text.into());
            if let Some(location) = panic.location() {
                fields.insert("location".into(), location.to_string().into());
            }
            if let Some(thread) = std::thread::current().name() {
                fields.insert("thread".into(), thread.into());
            }
            shared.write(
                Level::ERROR,
                shared.source.module.to_owned(),
                "panicked",
                fields,
            );
        }
    }
}

impl fmt::Debug for Hclog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hclog")
            .field("source", &self.shared.source)
            .finish_non_exhaustive()
    }
}

/// The fields of a span are written with each event inside it.
impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Hclog {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.shared.source.module_of(metadata.target()).is_some()
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Some(module) = self.shared.source.module_of(event.metadata().target()) else {
            return;
        };
        let mut fields = Fields::default();
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(Fields(of_span)) = span.extensions().get::<Fields>() {
                fields.0.extend(of_span.clone());
            }
        }
        // A span may have a field called message; only the event's own field is the message.
        fields.0.remove(MESSAGE);
        event.record(&mut fields);
        let message = match fields.0.remove(MESSAGE) {
            Some(Value::String(message)) => message,
            Some(other) => other.to_string(),
            None => String::new(),
        };
        self.shared
            .write(*event.metadata().level(), module, &message, fields.0);
    }
}

struct Shared {
    source: LogSource,
    clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
    // Held only while a finished line is written, so no other code runs under the lock.
    writer: Mutex<Box<dyn Write + Send>>,
}

impl Shared {
    /// Writes one line. Errors are ignored: if the host is gone, there is nobody to report them to.
    fn write(&self, level: Level, module: String, message: &str, fields: Map<String, Value>) {
        let line = line((self.clock)(), level, &module, message, fields);
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writer
            .write_all(line.as_bytes())
            .and_then(|()| writer.flush());
    }
}

impl LogSource {
    /// The name under which events of `target` are written; `None` if they are dropped.
    fn module_of(&self, target: &str) -> Option<String> {
        let rest = target.strip_prefix(self.krate)?;
        // Another crate's name may start with ours.
        (rest.is_empty() || rest.starts_with("::"))
            .then(|| format!("{}{}", self.module, rest.replace("::", ".")))
    }
}

/// The fields of an event or a span as JSON.
#[derive(Debug, Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    /// An error with all its causes.
    fn record_error(&mut self, field: &Field, error: &(dyn std::error::Error + 'static)) {
        let causes = std::iter::successors(Some(error), |error| error.source());
        let text: Vec<_> = causes.map(ToString::to_string).collect();
        self.put(field, text.join(": "));
    }
}

/// Formats a line, including the line feed, that fits in one read of the host.
fn line(
    time: Timestamp,
    level: Level,
    module: &str,
    message: &str,
    mut fields: Map<String, Value>,
) -> String {
    // Exactly six digits and a zone, or the host treats the whole line as plain text.
    let time = format!("{time:.6}");
    // Inserted last, so that no field can replace one of these.
    for (key, text) in RESERVED
        .into_iter()
        .zip([name(level), message, module, &time])
    {
        fields.insert(key.into(), text.into());
    }
    for limit in VALUE_LIMITS {
        fields.values_mut().for_each(|value| cut(value, limit));
        let line = format!("{}\n", Value::Object(fields.clone()));
        if line.len() <= LINE_LIMIT {
            return line;
        }
    }
    fields.retain(|key, _| RESERVED.contains(&key.as_str()));
    format!("{}\n", Value::Object(fields))
}

/// hclog's name for a level.
fn name(level: Level) -> &'static str {
    match level {
        Level::TRACE => "trace",
        Level::DEBUG => "debug",
        Level::INFO => "info",
        Level::WARN => "warn",
        Level::ERROR => "error",
    }
}

/// Shortens a text to `limit` bytes and marks that it was cut.
fn cut(value: &mut Value, limit: usize) {
    if let Value::String(text) = value
        && text.len() > limit
    {
        text.truncate(text.floor_char_boundary(limit));
        text.push('…');
    }
}

/// The field that holds an event's text in `tracing`.
const MESSAGE: &str = "message";

/// The keys that hclog sets itself.
const RESERVED: [&str; 4] = ["@level", "@message", "@module", "@timestamp"];

/// A host reads lines of up to 64 KiB, and splits longer ones into unstructured pieces.
const LINE_LIMIT: usize = 60 * 1024;

/// Bytes per value: a generous limit, and one that fits unless there are very many fields. A byte takes
/// up to six in JSON.
const VALUE_LIMITS: [usize; 2] = [16 * 1024, 1024];

#[cfg(test)]
mod tests {
    use std::io;

    use tracing::subscriber::with_default;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn hclog(writer: impl Write + Send + 'static) -> Hclog {
        let source = LogSource {
            krate: env!("CARGO_CRATE_NAME"),
            module: "plugin",
        };
        Hclog::new(source, writer, || {
            Timestamp::new(1_700_000_000, 5_000).unwrap()
        })
    }

    /// The lines that are logged during `run`.
    fn logged(run: impl FnOnce()) -> Vec<Value> {
        let written = Written::default();
        let log = hclog(written.clone());
        with_default(tracing_subscriber::registry().with(log), run);
        let text = written.text();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn a_line_has_level_message_module_and_a_time_with_six_digits() {
        let lines = logged(|| tracing::info!(target: env!("CARGO_CRATE_NAME"), "hello"));
        let expected = serde_json::json!({
            "@level": "info",
            "@message": "hello",
            "@module": "plugin",
            "@timestamp": "2023-11-14T22:13:20.000005Z",
        });
        assert_eq!(lines, [expected]);
    }

    #[test]
    fn every_level_is_written_under_hclogs_name_for_it() {
        let lines = logged(|| {
            tracing::trace!("");
            tracing::debug!("");
            tracing::info!("");
            tracing::warn!("");
            tracing::error!("");
        });
        let levels: Vec<_> = lines
            .iter()
            .map(|line| line["@level"].as_str().unwrap())
            .collect();
        assert_eq!(levels, ["trace", "debug", "info", "warn", "error"]);
    }

    #[test]
    fn fields_keep_their_types_and_the_module_its_path() {
        let error = io::Error::other("disk on fire");
        let error: &(dyn std::error::Error + 'static) = &error;
        let lines = logged(|| tracing::warn!(count = 3, ok = true, role = "ci", error, "x"));
        let line = &lines[0];
        assert_eq!(line["count"], 3);
        assert_eq!(line["ok"], true);
        assert_eq!(line["role"], "ci");
        assert_eq!(line["error"], "disk on fire");
        assert_eq!(line["@module"], "plugin.goplugin.hclog.tests");
    }

    #[test]
    fn events_of_other_crates_are_dropped() {
        let lines = logged(|| {
            tracing::error!(target: "h2::proto", "noise");
            tracing::error!(target: concat!(env!("CARGO_CRATE_NAME"), "_other"), "noise");
        });
        assert!(lines.is_empty(), "{lines:?}");
    }

    #[test]
    fn an_event_carries_the_fields_of_its_spans_under_its_own() {
        let lines = logged(|| {
            let outer = tracing::info_span!("mount", accessor = "a1", path = "outer", late = 0);
            let _outer = outer.enter();
            outer.record("late", 7);
            let _inner = tracing::info_span!("request", path = "inner", message = "no").entered();
            tracing::info!(id = 9, "hello");
        });
        let line = &lines[0];
        assert_eq!(line["accessor"], "a1");
        assert_eq!(line["path"], "inner");
        assert_eq!(line["late"], 7);
        assert_eq!(line["id"], 9);
        assert_eq!(line["@message"], "hello");
    }

    #[test]
    fn no_field_can_make_a_reserved_key_anything_but_a_string() {
        let lines = logged(|| {
            tracing::info!("@message" = 1, "@level" = 2, "@timestamp" = 3, message = 4);
        });
        for key in RESERVED {
            assert!(lines[0][key].is_string(), "{key}: {}", lines[0]);
        }
        assert_eq!(lines[0]["@message"], "4");
    }

    #[test]
    fn a_text_of_several_lines_stays_on_one() {
        assert_eq!(
            logged(|| tracing::info!("one\ntwo"))[0]["@message"],
            "one\ntwo"
        );
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        let long = "ä".repeat(100_000);
        let lines = logged(|| tracing::info!(long, "x"));
        let kept = lines[0]["long"].as_str().unwrap();
        assert!(kept.len() > 16_000 && kept.len() < 17_000, "{}", kept.len());
        assert!(kept.ends_with("ä…"));
    }

    #[test]
    fn a_line_stays_under_64_kib_whatever_is_in_it() {
        let worst = "\u{1}".repeat(100_000);
        let fields = |count: u32| (0..count).map(|n| (n.to_string(), worst.clone().into()));
        for count in [0, 3, 8, 1000] {
            let line = line(
                Timestamp::MAX,
                Level::INFO,
                &worst,
                &worst,
                fields(count).collect(),
            );
            assert!(line.len() < 64 * 1024, "{count} fields: {}", line.len());
            let line: Value = serde_json::from_str(&line).unwrap();
            assert!(RESERVED.iter().all(|key| line[key].is_string()));
        }
    }

    #[test]
    fn a_writer_that_fails_is_no_ones_problem() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        with_default(tracing_subscriber::registry().with(hclog(Broken)), || {
            tracing::error!("into the void");
        });
    }
}
