//! A simulated cluster: three servers with the engine on one storage, in simulated time, with the simulator's
//! OpenRouter in the same process, and everything that can go wrong between them.
//!
//! Each seed is a life: operators, readers, people in the dashboard, faults, kills, elections, restored
//! snapshots; then calm, and a judgment. A life is a function of its seed: it runs on one thread, in tokio's
//! paused time, and [`dice`] decides everything. So a failing seed fails again, and
//! `scripts/simulate --seed N --seeds 1` prints its story.
//!
//! - [`life`]: what happens, step by step, and how it is judged at the end.
//! - [`world`]: the servers, and what happens to them. [`node`]: the engine on one of them.
//! - [`raft`]: the storage. [`openrouter`]: the network to OpenRouter. [`weather`]: how often things fail.
//! - [`people`]: operators. [`readers`]: who relies on keys. [`leases`]: the servers' leases.
//! - [`runs`]: operators who start long jobs.
//! - [`requests`]: the way from them to an engine.
//! - [`standbys`]: servers that follow, and serve reads.
//! - [`guardrails`]: guardrails and bounds. [`budgets`]: budgets, and applications that spend.
//! - [`in_force`]: which versions were in force when.
//! - [`witness`]: what must hold, and whether it does. [`truth`]: what is committed, as [`views`] show it.
//! - [`story`]: what is printed of it.

#[cfg(test)]
mod budgets;
#[cfg(test)]
mod dice;
#[cfg(test)]
mod guardrails;
#[cfg(test)]
mod in_force;
#[cfg(test)]
mod leases;
#[cfg(test)]
mod life;
#[cfg(test)]
mod node;
#[cfg(test)]
mod openrouter;
#[cfg(test)]
mod people;
#[cfg(test)]
mod raft;
#[cfg(test)]
mod readers;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod run;
#[cfg(test)]
mod runs;
#[cfg(test)]
mod standbys;
#[cfg(test)]
mod story;
#[cfg(test)]
mod truth;
#[cfg(test)]
mod views;
#[cfg(test)]
mod weather;
#[cfg(test)]
mod witness;
#[cfg(test)]
mod world;

// A fifth of what a life costs is allocation, with the system's allocator.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
