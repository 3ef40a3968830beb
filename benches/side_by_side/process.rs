//! The cost of a process, as the kernel counts it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// The CPU time of a process so far, kernel time included.
///
/// The scheduler's count of each thread, in nanoseconds: `/proc/PID/stat` only counts hundredths of a
/// second. Threads that have ended are not included; none of the measured ones ends under load.
pub(crate) fn cpu(process: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("the process lives");
    let counts = threads.filter_map(|thread| {
        let count = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        count.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(counts.sum())
}

/// The memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// All resident memory.
    pub(crate) resident: f64,
    /// Resident memory that is not backed by a file.
    pub(crate) anonymous: f64,
}

/// The current memory of a process.
pub(crate) fn memory(process: u32) -> Memory {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup"));
    let rollup = rollup.expect("the process lives");
    let of = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kilobytes: f64 = kilobytes
            .and_then(|number| number.parse().ok())
            .expect("the kernel counts it");
        kilobytes * 1_024.0
    };
    Memory {
        resident: of("Rss:"),
        anonymous: of("Anonymous:"),
    }
}

/// The file that a process runs.
pub(crate) fn executable(process: u32) -> PathBuf {
    fs::read_link(format!("/proc/{process}/exe")).unwrap_or_default()
}
