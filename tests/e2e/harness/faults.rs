//! System calls that fail, or hang: rules for the library made of `faults.c`, which is preloaded into a proxy.

use nix::errno::Errno;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The calls, in the order of `faults.c`.
const CALLS: [&str; 25] = [
    "accept4",
    "bind",
    "connect",
    "epoll_create",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "eventfd",
    "getsockname",
    "getsockopt",
    "listen",
    "open64",
    "pipe",
    "pipe2",
    "pthread_create",
    "read",
    "recv",
    "send",
    "setsockopt",
    "shutdown",
    "sigaction",
    "socket",
    "socketpair",
    "write",
    "writev",
];

/// Of a rule in the shared file, in words of four bytes.
const SIZE: usize = 7;
const HITS: usize = 5;

/// What hangs.
const HANGING: i32 = -1;

/// Whose calls a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// Everyone's.
    All,
    /// The workers'.
    Workers,
    /// Everyone's but the workers'.
    Main,
}

/// How a call fails.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Its errno.
    pub error: i32,
    /// On these threads.
    pub threads: Threads,
    /// After so many calls that pass.
    pub skip: u32,
    /// So often.
    pub times: u32,
    /// Each time by this chance in 65536; 0 is surely.
    pub chance: u32,
    /// Only this operation of `epoll_ctl`, or this fd of `write`; 0 is any.
    pub detail: i32,
}

impl Fault {
    /// Each call fails on all threads.
    pub fn always(error: Errno) -> Fault {
        Fault { error: error as i32, threads: Threads::All, skip: 0, times: u32::MAX, chance: 0, detail: 0 }
    }

    /// The next call of a worker fails.
    pub fn once(error: Errno) -> Fault {
        Fault { threads: Threads::Workers, times: 1, ..Fault::always(error) }
    }

    /// The next call of a worker returns when the rule is taken back.
    pub fn hang() -> Fault {
        Fault { error: HANGING, ..Fault::once(Errno::UnknownErrno) }
    }
}

/// The library and the file with its rules.
pub struct Faults {
    rules: File,
    library: PathBuf,
    path: PathBuf,
}

impl Faults {
    /// Builds the library in `directory`. None, said aloud, without a C compiler.
    pub fn new(directory: &Path) -> Option<Faults> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/harness/faults.c");
        let library = directory.join("faults.so");
        let arguments = ["-shared", "-fPIC", "-O1", "-o"];
        let built =
            Command::new("cc").args(arguments).arg(&library).arg(source).args(["-ldl", "-lpthread"]).status();
        if !built.is_ok_and(|status| status.success()) {
            println!("SKIPPED: no C compiler, system calls are not made to fail");
            return None;
        }
        let path = directory.join("faults");
        let rules = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let rules = rules.expect("a file for the rules");
        rules.set_len((CALLS.len() * SIZE * 4) as u64).expect("room for the rules");
        Some(Faults { rules, library, path })
    }

    /// The start of a command: what follows becomes a process with the library in it.
    pub fn wrapper(&self) -> [String; 3] {
        let set = |name: &str, path: &Path| format!("{name}={}", path.display());
        ["env".into(), set("LD_PRELOAD", &self.library), set("FAULTS", &self.path)]
    }

    /// Has a call fail from now on.
    pub fn set(&self, call: &str, fault: Fault) {
        let threads = [Threads::All, Threads::Workers, Threads::Main];
        let threads = threads.iter().position(|t| *t == fault.threads).expect("a kind of threads") as u32;
        let Fault { skip, times, chance, .. } = fault;
        // The errno comes last: it switches the rule on.
        for (word, value) in [threads, skip, times, chance, 0, fault.detail as u32].iter().enumerate() {
            self.write(call, word + 1, *value);
        }
        self.write(call, 0, fault.error as u32);
    }

    /// Has a call work again; what hung goes on. The result is how often it has failed.
    pub fn clear(&self, call: &str) -> u32 {
        self.write(call, 0, 0);
        self.hits(call)
    }

    /// How often a call has failed by its present rule.
    pub fn hits(&self, call: &str) -> u32 {
        let mut bytes = [0; 4];
        self.rules.read_exact_at(&mut bytes, place(call, HITS)).expect("the rules read");
        u32::from_ne_bytes(bytes)
    }

    fn write(&self, call: &str, word: usize, value: u32) {
        self.rules.write_all_at(&value.to_ne_bytes(), place(call, word)).expect("the rules written");
    }
}

fn place(call: &str, word: usize) -> u64 {
    let index = CALLS.iter().position(|name| *name == call).expect("a call that can fail");
    ((index * SIZE + word) * 4) as u64
}
