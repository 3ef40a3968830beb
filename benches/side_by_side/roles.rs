//! The cost of unused roles: the first answer after a start, memory, and calls.
//!
//! Uses the tests' own host, which counts the plugin's calls. A mount's storage is filled with copies
//! of one role; then a new process starts on it, as after an unseal.

use std::time::{Duration, Instant};

use openrouter_simulator::{Options, Simulator};
use serde_json::json;

use super::direct::Hosted;
use super::figure::{Figure, Goal};
use super::process::memory;
use crate::harness::{eventually, program};
use crate::support::vault_mount::MountServer;

/// Measures 10 to 10,000 roles.
pub(crate) async fn measure() -> Vec<Figure> {
    let openrouter = Simulator::start(Options::default())
        .await
        .expect("the simulator starts");
    let mut mounts = Vec::new();
    for roles in ROLES {
        mounts.push(Filled::with(roles, &openrouter).await);
    }
    let mut figures = first_answers(&mounts).await;
    let mut idle = Vec::new();
    for mount in &mounts {
        idle.push((mount, mount.at_rest(&openrouter).await));
    }
    figures.extend(memory_of_each(&idle));
    figures.extend(an_idle_minute(&idle, &openrouter).await);
    figures
}

/// A mount with some roles, and no process for it.
struct Filled {
    roles: usize,
    server: MountServer,
}

impl Filled {
    async fn with(roles: usize, openrouter: &Simulator) -> Self {
        let server = MountServer::default();
        let hosted = Hosted::on(program::plugin(), &server).await;
        let connection = json!({
            "api_url": openrouter.base_url(),
            "management_key": openrouter.management_key(),
        });
        hosted.write("config", &connection).await;
        hosted.write("roles/app", &json!({})).await;
        let role = server.entry("roles/app").expect("there is the role");
        for number in 1..roles {
            server.put_entry(&format!("roles/app-{number}"), role.clone());
        }
        Self { roles, server }
    }

    /// A process that has loaded everything and reconciled it with OpenRouter.
    async fn at_rest(&self, openrouter: &Simulator) -> Hosted {
        let requests = openrouter.requests();
        requests.reset();
        let before = self.server.storage_calls();
        let hosted = Hosted::on(program::plugin(), &self.server).await;
        // Each role, the list of roles, the list of unfinished work, and the connection.
        let all = before + self.roles + 3;
        let begun = async || {
            let has_read = self.server.storage_calls() >= all;
            let has_listed = !requests.all().is_empty() && requests.in_flight() == 0;
            (has_read && has_listed).then_some(())
        };
        eventually("the start is over", START_TIME, begun).await;
        hosted
    }
}

/// From the start of the process to the first key.
async fn first_answers(mounts: &[Filled]) -> Vec<Figure> {
    let mut each = vec![Vec::new(); mounts.len()];
    for _ in 0..STARTS {
        for (mount, times) in mounts.iter().zip(&mut each) {
            let begun = Instant::now();
            let hosted = Hosted::on(program::plugin(), &mount.server).await;
            hosted.ask("read", "static-creds/app", "null").await.done();
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    let alone = mounts.iter().zip(&each).map(|(mount, times)| {
        let name = format!("{} roles: from exec to the first key", mount.roles);
        Figure::alone(name, "ms", times, Goal::None)
    });
    let mut figures: Vec<Figure> = alone.collect();
    let (few, many) = (&each[0], &each[each.len() - 1]);
    let turns: Vec<(f64, f64)> = many.iter().copied().zip(few.iter().copied()).collect();
    figures.push(Figure::ratio(
        "10,000 roles beside 10: from exec to the first key",
        "ms",
        "10 roles",
        &turns,
        Goal::AtMost(1.2),
    ));
    figures
}

/// The memory of one more role, in bytes.
fn memory_of_each(idle: &[(&Filled, Hosted)]) -> Vec<Figure> {
    let anonymous = |hosted: &Hosted| memory(hosted.plugin.id()).anonymous;
    let (few, many) = (&idle[0], &idle[idle.len() - 1]);
    let more = (anonymous(&many.1) - anonymous(&few.1)) / (many.0.roles - few.0.roles) as f64;
    vec![Figure::alone(
        "memory of a role, of 10,000",
        "bytes",
        &[more],
        Goal::AtMost(1_024.0),
    )]
}

async fn an_idle_minute(idle: &[(&Filled, Hosted)], openrouter: &Simulator) -> Vec<Figure> {
    openrouter.requests().reset();
    let before: Vec<usize> = idle
        .iter()
        .map(|(mount, _)| mount.server.storage_calls())
        .collect();
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(30)).await;
        // The server's periodic call, made once a minute.
        for (_, hosted) in idle {
            hosted.ask("rollback", "", "null").await.nothing();
        }
    }
    let calls = idle.iter().zip(before).map(|((mount, _), before)| {
        let calls = mount.server.storage_calls() - before;
        let name = format!("{} roles: storage calls in an idle minute", mount.roles);
        Figure::alone(name, "", &[calls as f64], Goal::AtMost(0.0))
    });
    let requests = openrouter.requests().all().len() as f64;
    let name = "requests to OpenRouter in that minute";
    let mut figures: Vec<Figure> = calls.collect();
    figures.push(Figure::alone(name, "", &[requests], Goal::AtMost(0.0)));
    figures
}

const ROLES: [usize; 4] = [10, 100, 1_000, 10_000];
const STARTS: usize = 5;
/// Far longer than it takes.
const START_TIME: Duration = Duration::from_secs(60);
