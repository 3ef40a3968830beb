//! The walls of the house: floors and rooms of the engine may use only those below them. Read from
//! `src/` itself, so that an upward import fails here.

// All of this is test code; declaring it as such makes clippy allow what it allows in tests.
#[cfg(test)]
mod made_up;
#[cfg(test)]
mod order;
#[cfg(test)]
mod sources;
