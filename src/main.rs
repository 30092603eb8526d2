//! The legate binary.
fn main() {}
