//! Memory of a plugin's process on a real server: idle, after 100,000 reads of one role, and after as many
//! of a thousand roles.

use super::contender::{Contenders, Contest};
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
            let sample = || sides.map(|(contender, _)| memory(server.plugin(contender)));
            idle.push(sample());
            for (contender, path) in sides {
                let mut readers = server.readers(contender, path, CLIENTS).await;
                so_often(&mut readers, READS).await;
            }
            used.push(sample());
        }
        figures.extend(compared(&contest, "idle", &idle));
        let after = format!("after {READS} {}s", contest.what);
        figures.extend(compared(&contest, &after, &used));
        if !contest.is_leased() {
            figures.extend(of_many_roles(&contest, options).await);
        }
    }
    figures
}

async fn of_many_roles(contest: &Contest<'_>, options: &Options) -> [Figure; 2] {
    let sides = [contest.ours, contest.theirs];
    let mut used = Vec::new();
    for _ in 0..options.long_rounds() {
        let server = Server::with(sides.map(|(contender, _)| contender)).await;
        for side in sides {
            server.copy(side.0, ROLES).await;
            let mut readers = server.readers_of_copies(side, ROLES, CLIENTS).await;
            so_often(&mut readers, READS).await;
        }
        used.push(sides.map(|(contender, _)| memory(server.plugin(contender))));
    }
    let after = format!("after {READS} {}s of {ROLES} roles", contest.what);
    compared(contest, &after, &used)
}

/// Resident and anonymous memory.
fn compared(contest: &Contest<'_>, when: &str, samples: &[[Memory; 2]]) -> [Figure; 2] {
    let figure = |what: &str, part: fn(&Memory) -> f64| {
        let name = format!("{what} memory, {when}");
        let megabytes = |memory| part(memory) / 1e6;
        let turns: Vec<(f64, f64)> = samples
            .iter()
            .map(|[ours, theirs]| (megabytes(ours), megabytes(theirs)))
            .collect();
        Figure::ratio(name, "MB", &contest.theirs.0.name, &turns, A_THIRD)
    };
    [
        figure("resident", |memory| memory.resident),
        figure("anonymous", |memory| memory.anonymous),
    ]
}

const CLIENTS: usize = 32;
const READS: usize = 100_000;
const ROLES: usize = 1_000;
const A_THIRD: Goal = Goal::AtMost(1.0 / 3.0);
