//! What was built (Envoy `source/common/common/version.cc`).
//!
//! As in Envoy, where `build_scm_revision` is linked in last, the library does not know the commit: the binary says it
//! (`src/main.rs`), so that a commit compiles nothing else again.

use std::sync::OnceLock;

static REVISION: OnceLock<&'static str> = OnceLock::new();

/// Names the commit that the binary was built from; only the first call counts.
pub(super) fn set_revision(revision: &'static str) {
    let _ = REVISION.set(revision);
}

/// The commit, 40 hexadecimal digits; zeros when the build was not told.
pub(super) fn revision() -> &'static str {
    REVISION.get().copied().unwrap_or("0000000000000000000000000000000000000000")
}

/// `sha/version/Distribution/RELEASE/ssl library`, as Envoy's. Its third word is `Clean` or `Modified` where the
/// build asks git, and `Distribution` where it does not, as here.
pub(super) fn version() -> String {
    let profile = if cfg!(debug_assertions) { "DEBUG" } else { "RELEASE" };
    format!("{}/{}/Distribution/{profile}/none", revision(), env!("CARGO_PKG_VERSION"))
}

/// The version's numbers, as the node tells them.
pub(super) fn semantic() -> serde_json::Value {
    let number = |text: &str| text.parse::<u32>().unwrap_or_default();
    let (major, minor) = (number(env!("CARGO_PKG_VERSION_MAJOR")), number(env!("CARGO_PKG_VERSION_MINOR")));
    serde_json::json!({ "major_number": major, "minor_number": minor })
}

/// The gauge `server.version`: the first six digits of the commit as a number.
pub(super) fn version_number() -> u64 {
    revision().get(..6).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0)
}
