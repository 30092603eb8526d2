//! What is left behind when the program is ended by a signal: nothing. Proxies run and the temporary directory are noted here, and
//! go with it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use legate::event::{Dispatcher, RunType};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

struct Left {
    processes: Vec<u32>,
    directory: Option<PathBuf>,
}

static LEFT: Mutex<Left> = Mutex::new(Left { processes: Vec::new(), directory: None });

fn left() -> MutexGuard<'static, Left> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has SIGTERM, SIGINT and SIGHUP clean up first.
pub fn listen() {
    let (ready, is_ready) = mpsc::channel();
    thread::spawn(move || {
        let dispatcher = Dispatcher::new("signals");
        let listen = |signal: Signal| {
            dispatcher.listen_for_signal(signal as i32, move || end(signal)).expect("a handler")
        };
        let _events = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].map(listen);
        let _ = ready.send(());
        dispatcher.run(RunType::RunUntilExit);
    });
    let _ = is_ready.recv();
}

fn end(signal: Signal) {
    let left = left();
    for process in &left.processes {
        let _ = kill(Pid::from_raw(*process as i32), Signal::SIGKILL);
    }
    if let Some(directory) = &left.directory {
        remove(directory);
    }
    std::process::exit(128 + signal as i32);
}

/// Removes a directory into which something may still be written: by the rest of this program, or by what is being killed.
fn remove(directory: &Path) {
    for _ in 0..50 {
        if std::fs::remove_dir_all(directory).is_ok() || !directory.exists() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Starts a process that is to end with this one.
///
/// # Errors
/// It does not start.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    let mut left = left();
    let child = command.spawn()?;
    left.processes.push(child.id());
    Ok(child)
}

/// Forgets a process that has ended.
pub fn forget(child: &Child) {
    left().processes.retain(|process| *process != child.id());
}

/// Notes the directory that is to go, or that there is none.
pub fn note_directory(directory: Option<&Path>) {
    left().directory = directory.map(Path::to_path_buf);
}
