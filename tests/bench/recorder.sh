#!/usr/bin/env bash
# What the stage recorder costs: CPU per request with it off and on, turn by turn in one process.
#
#   tests/bench/recorder.sh [rounds] [seconds] [connections] [legate's binary]
#
# The time is what the kernel has charged to the process's threads; the number of requests is wrk's.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
rounds=${1:-15}
seconds=${2:-2}
connections=${3:-64}
binary=${4:-}

if [ -z "${PROXY_PID:-}" ]; then
    exec python3 "$here/run.py" --no-setup --proxies legate ${binary:+--legate "$binary"} \
        --exec "$here/recorder.sh $rounds $seconds $connections"
fi

nanoseconds() { awk '{ total += $1 } END { printf "%.0f\n", total }' "/proc/$PROXY_PID"/task/*/schedstat; }

# Switches the recorder and prints the nanoseconds of CPU per request.
measure() {
    curl -s -o /dev/null -X POST "$ADMIN_URL/trace?enable=$1"
    wrk -t1 "-c$connections" -d1s "$PROXY_URL" >/dev/null
    local before after requests
    before=$(nanoseconds)
    requests=$(wrk -t1 "-c$connections" "-d${seconds}s" "$PROXY_URL" | awk '/requests in/ { print $1 }')
    after=$(nanoseconds)
    echo $(((after - before) / requests))
}

for ((round = 1; round <= rounds; round++)); do
    off=$(measure n)
    on=$(measure y)
    echo "round $round: off $off ns, on $on ns per request"
done | tee /dev/stderr | python3 -c '
import statistics, sys
pairs = [(int(w[3]), int(w[6])) for w in map(str.split, sys.stdin)]
off, on = (statistics.median(column) for column in zip(*pairs))
ratio = statistics.median(on / off for off, on in pairs)
print(f"off {off / 1000:.2f} us, on {on / 1000:.2f} us per request (medians); on/off {ratio:.3f} (median of the rounds)")
'
