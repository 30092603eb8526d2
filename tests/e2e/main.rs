//! End-to-end tests: the real binary, a real configuration, raw bytes on real sockets.
//!
//! Every case runs against legate and, where its binary is present, against Envoy, so that an
//! expectation is Envoy's and not ours. Where legate refuses on purpose what Envoy lets through, the case
//! says so and why, and both expectations are checked.
//!
//! - `LEGATE_BIN` names another legate than the one that was built.
//! - `ENVOY_BIN` names the Envoy binary; otherwise the one in `.venv` is taken, if there is one.
//! - `LEGATE_E2E_ONLY=envoy` or `=legate` runs the cases against that one only.
//! - `LEGATE_E2E_CASE=text` runs the cases whose name contains the text.

mod cases;
mod harness;
