//! What users feel: 500 clients with connections that stay open read a thousand roles, with and without
//! leases, while fifty of these rotate. Beside them, as many read as many entries of the built-in engine.

use futures::{StreamExt, stream};
use serde_json::json;

use super::figure::{Figure, Goal};
use super::limit::{self, BUILT_IN, MOUNT};
use super::load::{HttpReader, flat_out};
use super::options::Options;
use super::server::readers_of;
use crate::harness::{Mount, Vault};

/// Measures rate and latencies.
pub(crate) async fn measure(options: &Options) -> Vec<Figure> {
    let vault = Vault::dev().await;
    let client = vault.client();
    let mount = Mount::on(vault.client()).await;
    limit::mount(&client).await;
    stream::iter(0..ROLES)
        .for_each_concurrent(16, async |number| {
            let role = match number < ROTATING {
                true => json!({"rotation_period": 10, "rotation_grace_period": 60, "ttl": 50}),
                false => json!({}),
            };
            mount.role(&name(number), role).await;
            let path = format!("{MOUNT}/{}", name(number));
            client.write(&path, limit::entry()).await.ok();
        })
        .await;
    // One read in ten is leased: the server stores each lease, which is most of what such a read costs.
    let ours = |number: usize| match number % 10 {
        0 => mount.at(&format!("creds/{}", name(number % ROLES))),
        _ => mount.at(&format!("static-creds/{}", name(number % ROLES))),
    };
    let theirs = |number: usize| format!("{MOUNT}/{}", name(number % ROLES));
    let mut ours = readers_of(&client, CLIENTS, |first| walk(first, ours)).await;
    let mut theirs = readers_of(&client, CLIENTS, |first| walk(first, theirs)).await;
    let (mut rates, mut halves, mut nearly_all) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds() {
        let a = side(&mut ours, options).await;
        let b = side(&mut theirs, options).await;
        rates.push((a.0, b.0));
        halves.push((a.1, b.1));
        nearly_all.push((a.2, b.2));
    }
    let figure = |what: &str, unit, turns: &[(f64, f64)]| {
        let name = format!("{CLIENTS} clients, {ROLES} roles, {ROTATING} rotating: {what}");
        Figure::ratio(name, unit, BUILT_IN, turns, Goal::None)
    };
    vec![
        figure("reads in a second", "", &rates),
        figure("p50", "ms", &halves),
        figure("p99", "ms", &nearly_all),
    ]
}

/// Reads per second, and the milliseconds within which one half and 99 of 100 are answered.
async fn side(readers: &mut [HttpReader], options: &Options) -> (f64, f64, f64) {
    let load = flat_out(readers, options.round_time()).await;
    (load.rate(), load.within(0.5) / 1e3, load.within(0.99) / 1e3)
}

/// What one client reads, in turn: other roles than its neighbours at any time, and rotating ones too.
fn walk(first: usize, path: impl Fn(usize) -> String) -> Vec<String> {
    (0..WALK)
        .map(|step| path(first * 7 + step * STRIDE))
        .collect()
}

fn name(number: usize) -> String {
    format!("app-{number}")
}

const CLIENTS: usize = 500;
const ROLES: usize = 1_000;
const ROTATING: usize = 50;
const WALK: usize = 40;
/// Without a divisor in common with the number of roles.
const STRIDE: usize = 27;
