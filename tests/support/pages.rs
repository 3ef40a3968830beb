//! Documentation pages as the tests read them: headings, links, and code blocks with the comment before
//! each.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// The pages whose shell blocks `tests/acceptance/documentation.rs` runs.
pub(crate) const RUN: [&str; 9] = [
    "README.md",
    "docs/budgets.md",
    "docs/consumers.md",
    "docs/custody.md",
    "docs/install.md",
    "docs/monitoring.md",
    "docs/operations.md",
    "docs/restrictions.md",
    "docs/troubleshooting.md",
];

/// A page.
pub(crate) struct Page {
    /// The path below the repository's root.
    pub(crate) name: String,
    pub(crate) text: String,
    /// In GitHub's form.
    pub(crate) anchors: Vec<String>,
    pub(crate) links: Vec<Link>,
    pub(crate) blocks: Vec<Block>,
}

/// A link and its line.
pub(crate) struct Link {
    pub(crate) to: String,
    pub(crate) line: usize,
}

/// A block of code.
pub(crate) struct Block {
    pub(crate) language: String,
    pub(crate) text: String,
    pub(crate) line: usize,
    /// The comment directly before it.
    pub(crate) comment: Option<String>,
}

/// The meaning of a comment before a shell block.
pub(crate) enum Mark<'a> {
    /// The block must succeed.
    Runs,
    /// The block must fail, with this text in its output.
    Fails(&'a str),
    /// The block is not run, for this reason.
    NotRun(&'a str),
}

impl Block {
    /// Panics on a comment without a meaning.
    pub(crate) fn mark(&self) -> Mark<'_> {
        let Some(comment) = &self.comment else {
            return Mark::Runs;
        };
        let (kind, text) = comment.split_once(": ").unwrap_or((comment, ""));
        match kind {
            _ if text.is_empty() => panic!("line {}: `{comment}` without a text", self.line),
            "fails" => Mark::Fails(text),
            "not run" => Mark::NotRun(text),
            _ => panic!("line {}: `{comment}` means nothing", self.line),
        }
    }
}

impl Page {
    /// Reads a page of the repository.
    pub(crate) fn read(name: &str) -> Self {
        let text =
            fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        Self::of(name, text)
    }

    /// A page with this text.
    pub(crate) fn of(name: &str, text: String) -> Self {
        let mut page = Self {
            name: name.to_owned(),
            text,
            anchors: Vec::new(),
            links: Vec::new(),
            blocks: Vec::new(),
        };
        page.parse();
        page
    }

    fn parse(&mut self) {
        let text = self.text.clone();
        let line_of = |offset: usize| text[..offset].matches('\n').count() + 1;
        let (mut heading, mut block, mut comment) = (None, None, None);
        let mut headings = BTreeMap::new();
        for (event, place) in Parser::new_ext(&text, Options::ENABLE_TABLES).into_offset_iter() {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    let anchor = anchor(&heading.take().unwrap_or_default());
                    // A repeated heading is numbered.
                    let before: &mut usize = headings.entry(anchor.clone()).or_default();
                    self.anchors.push(match *before {
                        0 => anchor,
                        count => format!("{anchor}-{count}"),
                    });
                    *before += 1;
                }
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    let (to, line) = (dest_url.into_string(), line_of(place.start));
                    self.links.push(Link { to, line });
                }
                Event::Html(html) => comment = comment_of(&html),
                Event::Start(Tag::HtmlBlock) | Event::End(TagEnd::HtmlBlock) => {}
                Event::Start(Tag::CodeBlock(kind)) => {
                    let language = match kind {
                        CodeBlockKind::Fenced(language) => language.into_string(),
                        CodeBlockKind::Indented => String::new(),
                    };
                    block = Some(Block {
                        language,
                        text: String::new(),
                        line: line_of(place.start),
                        comment: comment.take(),
                    });
                }
                Event::End(TagEnd::CodeBlock) => self.blocks.extend(block.take()),
                Event::Text(part) | Event::Code(part) => {
                    if let Some(block) = &mut block {
                        block.text.push_str(&part);
                    } else if let Some(heading) = &mut heading {
                        heading.push_str(&part);
                    }
                    comment = None;
                }
                _ => comment = None,
            }
        }
    }

    /// One script of all shell blocks, each as it is marked. `before` are the commands that come first.
    pub(crate) fn script(&self, before: &str) -> String {
        let mut script = format!("{PRELUDE}{before}");
        for block in self.shell() {
            let text = &block.text;
            let _ = writeln!(script, "line={}\nuntil_ready", block.line);
            match block.mark() {
                Mark::NotRun(_) => {}
                Mark::Runs => script.push_str(text),
                Mark::Fails(message) => {
                    assert_eq!(
                        text.trim_end().lines().count(),
                        1,
                        "only its last line can fail"
                    );
                    let message = message.replace('\'', r"'\''");
                    let _ = writeln!(script, "must_fail '{message}' <<'BLOCK'\n{text}BLOCK");
                }
            }
        }
        script
    }

    /// The shell blocks.
    pub(crate) fn shell(&self) -> impl Iterator<Item = &Block> {
        self.blocks.iter().filter(|block| block.language == "shell")
    }
}

/// What the blocks run in: the shell ends with the first command that fails, and says in which block.
const PRELUDE: &str = r#"
set -euo pipefail
line=0
trap 'status=$?; [ $status = 0 ] || echo "the block in line $line failed" >&2' EXIT
# A snapshot that was restored takes the server away for a moment.
until_ready() { until curl -fs "$VAULT_ADDR/v1/sys/health" >/dev/null; do sleep 0.1; done; }
must_fail() {
  local said
  if said=$(bash -euo pipefail -c "$(cat)" 2>&1 </dev/null); then
    echo "it succeeded: $said" >&2
    return 1
  fi
  [[ $said == *"$1"* ]] || { echo "it failed otherwise: $said" >&2 && return 1; }
}
"#;

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn comment_of(html: &str) -> Option<String> {
    let text = html.trim().strip_prefix("<!--")?.strip_suffix("-->")?;
    Some(text.trim().to_owned())
}

/// The fragment of GitHub's link to a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter_map(|c| match c {
        ' ' => Some('-'),
        _ if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
        _ => None,
    });
    kept.flat_map(char::to_lowercase).collect()
}
