#!/usr/bin/env bash
# Runs a target under libFuzzer, on stable Rust: the compiler's coverage instrumentation is asked for by hand.
#
#   fuzz/libfuzzer.sh TARGET [libFuzzer's options]      e.g. fuzz/libfuzzer.sh server -max_total_time=600 -jobs=2
#
# The corpus grows in fuzz/corpus/TARGET; what fails is written to fuzz/artifacts.
set -euo pipefail
target=${1:?usage: libfuzzer.sh TARGET [OPTION]...}
shift
cd "$(dirname "${BASH_SOURCE[0]}")"
# Only what is built for the target machine is instrumented, not build scripts: hence --target.
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-../target/fuzz}
cargo build --release --features libfuzzer --bin libfuzzer --target "$host"
mkdir -p "corpus/$target" artifacts
"$CARGO_TARGET_DIR/release/fuzz" --seeds "corpus/$target" --target "$target" 2>/dev/null || true
LEGATE_FUZZ_TARGET=$target exec "$CARGO_TARGET_DIR/$host/release/libfuzzer" \
    -artifact_prefix="artifacts/$target-" -max_len=16384 -rss_limit_mb=4096 "$@" "corpus/$target"
