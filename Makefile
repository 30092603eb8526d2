# make build   builds a release: quick to build; make dist builds what is measured: slower to build, a little faster
# make run     builds legate and starts its demonstration
# make test    formatting, lints and all tests
# make bench   legate beside Envoy, nginx and HAProxy; BENCH='--seconds 2 --proxies legate,envoy'
# make instructions  instructions, allocations and locked instructions per request: legate, nginx, HAProxy; INSTRUCTIONS='--requests 1000,9000'
# make loom    what threads share, in many orders of them; a part of make test
# make soak    five minutes of load on legate, then its gauges; SOAK='--soak-seconds 60'
# make faults  hosts that die or fail, connections that close, names that change, one connection for all, WebSockets while a listener drains; FAULTS='--seconds 60'
# make chaos   random clients and upstreams for five minutes; CHAOS='--seconds 600 --seed 7'
# make resets  what resets leave behind, as a table
# make fuzz    random inputs for everything that reads bytes from outside, a minute a target; FUZZ='--seconds 600 --target server'
# make verdicts  legate and Envoy on configurations that are a little wrong; VERDICTS='--count 3000 --seed 7'
# make syscalls  system calls per request
# make docs-check  runs the commands of README.md and docs/ again and compares; DOCS='--update' to take over what they print
# Each target installs the Debian packages it needs where it may (tests/setup.sh).

SHELL := /bin/bash
export PATH := $(PATH):/usr/sbin:/sbin:$(HOME)/.cargo/bin

BENCH ?=
SOAK ?=
FAULTS ?=
FUZZ ?=
SYSCALLS ?=
VERDICTS ?=
INSTRUCTIONS ?=
DOCS ?=
CHAOS ?=

.PHONY: run build dist test bench soak faults chaos resets fuzz loom syscalls instructions verdicts docs-check clean

# src/main.rs is told the commit; `git --no-optional-locks` leaves the index alone.
build dist: export LEGATE_REVISION = $(shell git --no-optional-locks rev-parse HEAD 2>/dev/null)

run: build
	@exec target/release/legate --demo

build:
	@tests/setup.sh build
	cargo build --release

dist:
	@tests/setup.sh build
	cargo build --profile dist --bin legate

test:
	@tests/setup.sh test
	@if cargo fmt --version >/dev/null 2>&1; then echo 'cargo fmt --check'; cargo fmt --check; \
	else echo 'SKIPPED: cargo fmt is not installed'; fi
	@if cargo clippy --version >/dev/null 2>&1; then echo 'cargo clippy'; cargo clippy --all-targets -- -D warnings; \
	else echo 'SKIPPED: cargo clippy is not installed'; fi
	@if cargo nextest --version >/dev/null 2>&1; then cargo test --doc && cargo nextest run --no-fail-fast; \
	else cargo test; fi
	@$(MAKE) --no-print-directory loom

bench:
	@tests/setup.sh bench
	@exec python3 tests/bench/run.py $(BENCH)

soak:
	@tests/setup.sh bench
	@exec python3 tests/bench/run.py --soak $(SOAK)

faults: dist
	@tests/setup.sh bench
	@exec python3 tests/bench/faults.py $(FAULTS)

verdicts:
	@tests/setup.sh test
	@cargo build --quiet --bin legate
	@exec python3 tests/verdicts.py $(VERDICTS)

chaos:
	@tests/setup.sh build
	CHAOS="--seconds 300 $(CHAOS)" cargo test --test chaos random -- --nocapture

resets:
	@tests/setup.sh build
	CHAOS="--each 300 --many 20000 $(CHAOS)" cargo test --test chaos reset -- --nocapture

fuzz:
	@tests/setup.sh build
	cargo build --release --manifest-path fuzz/Cargo.toml --target-dir target/fuzz
	@exec target/fuzz/release/fuzz $(FUZZ)

loom:
	cargo test --manifest-path tests/loom/Cargo.toml --target-dir target/loom

syscalls:
	@tests/setup.sh bench
	@exec tests/bench/syscalls.sh $(SYSCALLS)

instructions:
	@tests/setup.sh bench
	@exec python3 tests/bench/instructions.py $(INSTRUCTIONS)

docs-check: build
	@tests/setup.sh bench
	cargo build && cargo build --examples
	@python3 tests/docs_check_test.py
	@exec python3 tests/docs_check.py $(DOCS)

clean:
	cargo clean
