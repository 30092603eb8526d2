//! A target under libFuzzer, which looks for new paths instead of new outcomes. `libfuzzer.sh` builds and runs
//! it; `LEGATE_FUZZ_TARGET` names the target.
#![no_main]

use std::sync::OnceLock;

use legate_fuzz::memory::Counting;
use legate_fuzz::{Target, driver, find};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn target() -> &'static Target {
    static TARGET: OnceLock<&'static Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("LEGATE_FUZZ_TARGET").expect("LEGATE_FUZZ_TARGET");
        find(&name).expect("a target of that name")
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Err(problem) = driver::check(target(), data) {
        eprintln!("{problem}");
        std::process::abort();
    }
});
