//! The walls of the house: floors know only those below them, and so do the rooms of the engine. Read
//! from `src/` itself, so that an import that goes up fails here.

// Everything is test code; saying so lets clippy allow what it allows in tests.
#[cfg(test)]
mod order;
#[cfg(test)]
mod sources;
