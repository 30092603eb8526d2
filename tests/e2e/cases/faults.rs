//! System calls that fail: what one of them takes away is said, counted, and nothing else suffers.

use crate::harness::{Case, Fault, Faults, Kind, Launch, PATIENCE, Site, Threads, new_directory};
use nix::errno::Errno;

/// Legate with two workers, whose system calls can be made to fail.
fn with_faults(case: &Case, run: impl FnOnce(&mut Site, &Faults)) {
    let directory = new_directory(Kind::Legate);
    let Some(faults) = Faults::new(&directory) else { return };
    let wrapper = faults.wrapper.each_ref().map(String::as_str);
    let launch = Launch { wrapper: &wrapper, workers: 2, ..Launch::default() };
    run(&mut Site::start_with(Kind::Legate, &[case], launch), &faults);
    let _ = std::fs::remove_dir_all(directory);
}

#[test]
fn a_loop_that_fails_ends_the_process() {
    for (threads, name) in [(Threads::Workers, "worker_"), (Threads::Main, "main_thread")] {
        with_faults(&Case::new("loop"), |site, faults| {
            faults.set("epoll_pwait", Fault { threads, ..Fault::once(Errno::EBADF as i32) });
            let status = site.proxy.wait_for_exit(PATIENCE).expect("an end");
            let log = site.proxy.log();
            assert_eq!(status.code(), Some(1), "{name}: {log}");
            let text = format!("the event loop of {name}");
            let line = log.lines().find(|line| line.contains(&text)).expect("a line about it");
            assert!(line.contains("[critical][main]") && line.contains("Bad file descriptor"), "{line}");
        });
    }
}
