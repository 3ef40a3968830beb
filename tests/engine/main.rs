//! The engine in process: what it guarantees when it crashes, when OpenRouter or storage misbehave, and with
//! many concurrent callers.
//!
//! Every module covers one subject. `harness` is the world of the tests: storage in memory, a simulated
//! OpenRouter, one clock for both, and an interruption after any chosen effect.

// All of this is test code; declaring it as such makes clippy allow what it allows in tests.
#[cfg(test)]
mod addresses;
#[cfg(test)]
mod adoption;
#[cfg(test)]
mod awaiting;
#[cfg(test)]
mod bounds;
#[cfg(test)]
mod budget;
#[cfg(test)]
mod budget_alerts;
#[cfg(test)]
mod budget_calls;
#[cfg(test)]
mod budget_comparison;
#[cfg(test)]
mod budget_ends;
#[cfg(test)]
mod budget_keys;
#[cfg(test)]
mod budget_leases;
#[cfg(test)]
mod budget_leases_early;
#[cfg(test)]
mod budget_leases_ends;
#[cfg(test)]
mod budget_revocations;
#[cfg(test)]
mod budget_spending;
#[cfg(test)]
mod budget_windows;
#[cfg(test)]
mod cached;
#[cfg(test)]
mod concurrency;
#[cfg(test)]
mod contradictions;
#[cfg(test)]
mod cost;
#[cfg(test)]
mod crash_matrix;
#[cfg(test)]
mod custody;
#[cfg(test)]
mod deletion;
#[cfg(test)]
mod deposed;
#[cfg(test)]
mod ending;
#[cfg(test)]
mod events;
#[cfg(test)]
mod expiry;
#[cfg(test)]
mod forgetting;
#[cfg(test)]
mod giving_up;
#[cfg(test)]
mod gone;
#[cfg(test)]
mod guardrails;
#[cfg(test)]
mod hanging;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod lease_terms;
#[cfg(test)]
mod leases;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod proof;
#[cfg(test)]
mod reconcile;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod refused_updates;
#[cfg(test)]
mod restored;
#[cfg(test)]
mod role_fields;
#[cfg(test)]
mod standby;
#[cfg(test)]
mod stored;
#[cfg(test)]
mod timing;
#[cfg(test)]
mod unclear;
#[cfg(test)]
mod unheard;
#[cfg(test)]
mod unreadable;
#[cfg(test)]
mod urgency;
#[cfg(test)]
mod usage_cached;
#[cfg(test)]
mod usage_limits;
#[cfg(test)]
mod usage_tracked;
#[cfg(test)]
mod warnings;
