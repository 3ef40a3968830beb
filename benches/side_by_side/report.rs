//! The result: a table for `docs/performance.md`, and the same as JSON in the build folder.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use jiff::Timestamp;
use serde::Serialize;

use super::figure::{Figure, Goal, Spread};

/// All figures, and the machine on which they were measured.
#[derive(Serialize)]
pub(crate) struct Report {
    at: Timestamp,
    machine: Machine,
    rounds: usize,
    figures: Vec<Figure>,
}

#[derive(Serialize)]
struct Machine {
    processor: String,
    processors: usize,
    kernel: String,
}

impl Report {
    #[expect(
        clippy::disallowed_methods,
        reason = "the report says when it was made, and nothing depends on it"
    )]
    pub(crate) fn new(rounds: usize) -> Self {
        Self {
            at: Timestamp::now(),
            machine: Machine::this(),
            rounds,
            figures: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, figures: Vec<Figure>) {
        for figure in &figures {
            eprintln!("{}", row(figure));
        }
        self.figures.extend(figures);
    }

    /// Prints the table as Markdown.
    pub(crate) fn print(&self) {
        let Machine {
            processor,
            processors,
            kernel,
        } = &self.machine;
        println!(
            "{processors} × {processor}, Linux {kernel}, {} rounds\n",
            self.rounds
        );
        println!("| figure | ours | theirs | ratio: least, median, most | goal | met |");
        println!("|---|---|---|---|---|---|");
        for figure in &self.figures {
            println!("{}", row(figure));
        }
    }

    /// Writes it to the build folder, named by its time.
    pub(crate) fn store(&self) {
        let folder = folder();
        fs::create_dir_all(&folder).expect("a folder for the results");
        let json = serde_json::to_string_pretty(self).expect("the report as JSON");
        let file = folder.join(format!("{}.json", self.at.strftime("%Y%m%dT%H%M%SZ")));
        fs::write(&file, json).expect("the report can be stored");
        eprintln!("Stored as {}.", file.display());
    }
}

impl Machine {
    fn this() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let processor = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown processor".to_owned(), |(_, name)| name.to_owned());
        Self {
            processor,
            processors: thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

fn row(figure: &Figure) -> String {
    let unit = figure.unit;
    let ours = number(figure.ours.median, unit);
    let theirs = match (&figure.peer, figure.theirs) {
        (Some(peer), Some(theirs)) => format!("{peer}: {}", number(theirs.median, unit)),
        _ => String::new(),
    };
    let ratio = match figure.ratio {
        Some(ratio) => spread(ratio),
        None => spread(figure.ours),
    };
    let goal = match figure.goal {
        Goal::AtMost(most) => format!("≤ {most:.2}"),
        Goal::AtLeast(least) => format!("≥ {least:.2}"),
        Goal::None => String::new(),
    };
    let met = match figure.met {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => "",
    };
    format!(
        "| {} | {ours} | {theirs} | {ratio} | {goal} | {met} |",
        figure.name
    )
}

fn spread(spread: Spread) -> String {
    let Spread {
        minimum,
        median,
        maximum,
    } = spread;
    format!("{minimum:.2}, {median:.2}, {maximum:.2}")
}

fn number(value: f64, unit: &str) -> String {
    let precision = if value < 10.0 {
        2
    } else {
        usize::from(value < 100.0)
    };
    let number = format!("{value:.precision$}");
    match unit {
        "" => number,
        unit => format!("{number} {unit}"),
    }
}

fn folder() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target"),
        PathBuf::from,
    );
    target.join("bench")
}
