#!/usr/bin/env bash
# Counts the system calls of a proxy per request.
#
#   tests/bench/syscalls.sh [legate|envoy] [seconds] [connections]
#
# strace follows all threads, so the few calls of the main thread are in it, too.
# ADMIN_URL's http.ingress_http.downstream_rq_total says how many requests there were.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
seconds=${2:-3}
connections=${3:-16}

if [ -z "${PROXY_PID:-}" ]; then
    command -v strace >/dev/null || { echo "syscalls.sh: strace is needed (package strace)" >&2; exit 1; }
    exec python3 "$here/run.py" --proxies "${1:-legate}" --exec "$here/syscalls.sh '${1:-legate}' $seconds $connections"
fi
[ -n "$ADMIN_URL" ] || { echo "syscalls.sh: $PROXY_NAME has no /stats" >&2; exit 1; }

requests() {
    python3 - "$ADMIN_URL/stats" <<'PYTHON'
import sys, urllib.request
for line in urllib.request.urlopen(sys.argv[1]).read().decode().splitlines():
    if line.startswith("http.ingress_http.downstream_rq_total: "):
        print(line.split(": ")[1])
PYTHON
}

scratch=$(mktemp -d)
tracer=
trap '[ -z "$tracer" ] || kill "$tracer" 2>/dev/null || true; rm -rf "$scratch"' EXIT

wrk -t1 "-c$connections" -d1s "$PROXY_URL" >/dev/null # opens the upstream connections
before=$(requests)
strace -c -f -p "$PROXY_PID" -o "$scratch/calls" 2>"$scratch/strace.log" &
tracer=$!
until grep -q attached "$scratch/strace.log"; do
    kill -0 "$tracer" 2>/dev/null || { cat "$scratch/strace.log" >&2; exit 1; }
    sleep 0.1
done
wrk -t1 "-c$connections" "-d${seconds}s" "$PROXY_URL" >/dev/null
count=$(($(requests) - before))
kill -INT "$tracer"
wait "$tracer" || true
tracer=

echo "$PROXY_NAME: $count requests over $connections connections"
[ "$count" -gt 0 ] || exit 1
# Columns of strace -c: % time, seconds, usecs/call, calls, [errors], syscall.
awk -v n="$count" '
    function row(name, calls) { printf "%-20s %10d %9.3f per request\n", name, calls, calls / n }
    $1 ~ /^[0-9.]+$/ && NF >= 5 && $NF != "total" { row($NF, $4); total += $4 }
    END { row("total", total) }
' "$scratch/calls" | sort -k2,2nr
