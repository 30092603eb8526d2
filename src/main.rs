//! The legate binary.

use std::process::ExitCode;

use legate::common::free_lists::FreeLists;

#[global_allocator]
static ALLOCATOR: FreeLists = FreeLists;

/// The commit, as the Makefile gives it; a plain `cargo build` has none.
const REVISION: Option<&str> = option_env!("LEGATE_REVISION");

fn main() -> ExitCode {
    legate::server::main_common(std::env::args_os(), REVISION)
}
