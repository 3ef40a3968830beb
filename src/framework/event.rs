//! The events of an engine, as its reference lists them.

/// A kind of event. Its metadata also has `path` and `operation`, which are not listed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventKind {
    /// `<plugin>/<what-happened>`.
    pub name: &'static str,
    /// When it is sent, in one sentence without a full stop.
    pub sent: &'static str,
    /// The further fields of its metadata.
    pub metadata: &'static [&'static str],
}
