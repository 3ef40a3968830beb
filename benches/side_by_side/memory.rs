//! Memory of a plugin's process on a real server: idle, and after 100,000 reads.

use super::contender::Contenders;
use super::figure::{Figure, Goal};
use super::load::so_often;
use super::options::Options;
use super::process::{Memory, memory};
use super::server::Server;

/// Measures every pair, each time on a new server.
pub(crate) async fn measure(contenders: &Contenders, options: &Options) -> Vec<Figure> {
    let mut figures = Vec::new();
    for contest in contenders.contests() {
        let (mut idle, mut used) = (Vec::new(), Vec::new());
        for _ in 0..options.long_rounds() {
            let sides = [contest.ours, contest.theirs];
            let server = Server::with(sides.map(|(contender, _)| contender)).await;
            let look = || sides.map(|(contender, _)| memory(server.plugin(contender)));
            idle.push(look());
            for (contender, path) in sides {
                let mut readers = server.readers(contender, path, CLIENTS).await;
                so_often(&mut readers, READS).await;
            }
            used.push(look());
        }
        let figure = |when: &str, what: &str, looks: &[[Memory; 2]], part: fn(&Memory) -> f64| {
            let name = format!("{what} memory, {when}");
            let megabytes = |memory| part(memory) / 1e6;
            let turns: Vec<(f64, f64)> = looks
                .iter()
                .map(|[ours, theirs]| (megabytes(ours), megabytes(theirs)))
                .collect();
            Figure::ratio(name, "MB", &contest.theirs.0.name, &turns, A_THIRD)
        };
        let after = format!("after {READS} {}s", contest.what);
        figures.extend([
            figure("idle", "resident", &idle, |memory| memory.resident),
            figure("idle", "anonymous", &idle, |memory| memory.anonymous),
            figure(&after, "resident", &used, |memory| memory.resident),
            figure(&after, "anonymous", &used, |memory| memory.anonymous),
        ]);
    }
    figures
}

const CLIENTS: usize = 32;
const READS: usize = 100_000;
const A_THIRD: Goal = Goal::AtMost(1.0 / 3.0);
