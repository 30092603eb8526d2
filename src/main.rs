//! The legate binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    legate::server::main_common(std::env::args_os())
}
