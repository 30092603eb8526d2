//! Checks that the libevent bindings agree with the libevent that was just
//! compiled, and stamps the git revision into the binary.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    check_layout(&out);
    stamp_revision();
}

/// Turns `ffi/layout.txt` into `_Static_assert`s for the C compiler and `const`
/// assertions for rustc (included by `src/event/ffi.rs`).
fn check_layout(out: &Path) {
    println!("cargo:rerun-if-changed=ffi/layout.txt");
    println!("cargo:rerun-if-changed=ffi/wrapper.h");
    let text = fs::read_to_string("ffi/layout.txt").expect("ffi/layout.txt");
    let mut c = String::from("#include <stddef.h>\n#include <sys/socket.h>\n#include \"wrapper.h\"\n");
    let mut rust = String::new();
    for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (c_expr, rust_expr, value) = match words[..] {
            ["size", ty, n] => (format!("sizeof(struct {ty})"), format!("::core::mem::size_of::<{ty}>()"), n),
            ["offset", ty, field, n] => (
                format!("offsetof(struct {ty}, {field})"),
                format!("::core::mem::offset_of!({ty}, {field})"),
                n,
            ),
            ["const", name, n] => (name.to_string(), format!("({name} as usize)"), n),
            _ => panic!("ffi/layout.txt: cannot read line {line:?}"),
        };
        writeln!(c, "_Static_assert({c_expr} == {value}, \"bindings say: {line}\");").expect("a String");
        writeln!(rust, "const _: () = assert!({rust_expr} == {value}, \"{line}\");").expect("a String");
    }
    fs::write(out.join("layout.c"), c).expect("write layout.c");
    fs::write(out.join("layout.rs"), rust).expect("write layout.rs");

    let include = env::var_os("DEP_EVENT_INCLUDE").expect("libevent-sys gives its include directory");
    cc::Build::new().file(out.join("layout.c")).include(include).include("ffi").compile("legate_layout");
}

/// `LEGATE_REVISION` is the commit that is checked out. It is read from git's files, and only those that change
/// with a commit or a checkout are watched: `git status` writes the index, which would make everything compile
/// again. So nothing is said of changes that are not committed.
fn stamp_revision() {
    let revision = revision().unwrap_or_else(|| "0".repeat(40));
    println!("cargo:rustc-env=LEGATE_REVISION={revision}");
    println!("cargo:rustc-env=LEGATE_PROFILE={}", env::var("PROFILE").unwrap_or_default().to_uppercase());
}

fn revision() -> Option<String> {
    let git = git_directory()?;
    let common = fs::read_to_string(git.join("commondir")).map_or(git.clone(), |path| git.join(path.trim()));
    let head = watched(&git.join("HEAD"))?;
    let Some(name) = head.strip_prefix("ref: ") else { return Some(head) };
    if let Some(commit) = watched(&common.join(name)) {
        return Some(commit);
    }
    // The next commit writes a file there.
    println!("cargo:rerun-if-changed={}", common.join("refs/heads").display());
    let packed = watched(&common.join("packed-refs"))?;
    packed.lines().find_map(|line| line.strip_suffix(name)?.strip_suffix(' ').map(str::to_string))
}

/// `.git`, or where it leads to in a further work tree.
fn git_directory() -> Option<PathBuf> {
    let path = PathBuf::from(".git");
    if path.is_dir() {
        return Some(path);
    }
    fs::read_to_string(path).ok()?.strip_prefix("gitdir: ").map(|path| PathBuf::from(path.trim()))
}

/// The text of a file that the build depends on; a file that is not there is not watched, since that would make each
/// build run again.
fn watched(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    println!("cargo:rerun-if-changed={}", path.display());
    Some(text.trim().to_string())
}
