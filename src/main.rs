//! The plugin's process.
fn main() {}
