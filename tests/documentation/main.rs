//! Checks of the documentation that need no server: links, sizes, which commands are run, and whether the
//! messages that it explains and the names that it quotes exist. `tests/acceptance/documentation.rs` runs the
//! commands. Made-up pages show that each check can fail.

#[cfg(test)]
mod commands;
#[cfg(test)]
mod links;
#[cfg(test)]
mod messages;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod names;
#[cfg(test)]
#[path = "../support/pages.rs"]
mod pages;
#[cfg(test)]
mod sizes;
