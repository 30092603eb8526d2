//! Checks that the libevent bindings agree with the libevent that was just
//! compiled. That is all: whatever a build script watches makes the library compile
//! again, so it asks git nothing.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    check_layout(&out);
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
