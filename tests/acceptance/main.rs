//! The acceptance suite: a real server with the built plugin, called through its HTTP API and its CLI.
//!
//! Every module covers one subject of the contract and uses `harness`. OpenRouter is the simulator, inside
//! the test process, so that a test can count its requests and script its failures.

// All of this is test code; declaring it as such makes clippy allow what it allows in tests.
#[cfg(test)]
mod addresses;
#[cfg(test)]
mod budget;
#[cfg(test)]
mod cached;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod consumers;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod credentials;
#[cfg(test)]
mod custody;
#[cfg(test)]
mod deletion;
#[cfg(test)]
mod deposed;
#[cfg(test)]
mod documentation;
#[cfg(test)]
mod dynamic;
#[cfg(test)]
mod egress;
#[cfg(test)]
mod ending;
#[cfg(test)]
mod forgetting;
#[cfg(test)]
mod guardrails;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod help;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod impatience;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod openapi;
#[cfg(test)]
mod operators;
#[cfg(test)]
mod policies;
#[cfg(test)]
mod prometheus;
#[cfg(test)]
mod promise;
#[cfg(test)]
mod reconciliation;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod rehearsal;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod restored;
#[cfg(test)]
mod roles;
#[cfg(test)]
mod rotation;
#[cfg(test)]
mod runs;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod servers;
#[cfg(test)]
mod soak;
#[cfg(test)]
mod upgrade;
#[cfg(test)]
mod urgency;
