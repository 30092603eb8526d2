#!/usr/bin/env python3
"""Two binaries of legate, turn by turn under the same load: CPU per request of each, and the median of the ratios.

    python3 tests/bench/pair.py [--rounds N] [--seconds S] [--connections C] BINARY BINARY

For instance what the stage recorder costs while it is off:

    make dist
    RUSTFLAGS='--cfg without_recorder' cargo build --profile dist --target-dir target/without-recorder
    python3 tests/bench/pair.py target/without-recorder/dist/legate target/dist/legate
"""

import argparse
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def measure(binary, arguments):
    """Microseconds of CPU per request of one run."""
    command = [sys.executable, os.path.join(HERE, "run.py"), "--no-setup", "--legate", binary, "--proxies", "legate"]
    command += ["--connections", str(arguments.connections), "--seconds", str(arguments.seconds)]
    command += ["--rounds", "1", "--idle", "0"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for line in output.splitlines():
        words = line.split()
        if len(words) > 5 and words[0] == "legate" and words[1].isdigit():
            return float(words[4])
    raise RuntimeError(f"no figures of {binary} in:\n{output}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binaries", nargs=2)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--connections", type=int, default=64)
    arguments = parser.parse_args()
    rounds = []
    for number in range(arguments.rounds):
        order = (0, 1) if number % 2 == 0 else (1, 0)
        figures = {index: measure(arguments.binaries[index], arguments) for index in order}
        rounds.append((figures[0], figures[1]))
        print(f"round {number + 1}: {figures[0]:.1f} us, {figures[1]:.1f} us per request", file=sys.stderr)
    for index, binary in enumerate(arguments.binaries):
        column = [figures[index] for figures in rounds]
        print(f"{binary}: median {statistics.median(column):.1f} us, least {min(column):.1f} us per request")
    print(f"second/first {statistics.median(b / a for a, b in rounds):.3f} (median of the rounds)")


if __name__ == "__main__":
    main()
