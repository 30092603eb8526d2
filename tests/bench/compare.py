"""Throughput, latency, CPU and memory of several proxies in interleaved rounds."""

from statistics import median

from load import drive

METRICS = ("rps", "p50_us", "p99_us", "cpu_us", "cpu_share", "rss_kib")


def compare(lab, names, options):
    """Runs all rounds; returns every run's numbers, with its round."""
    runs = []
    for connections in options.connections:
        servers = [lab.start_proxy(name) for name in names]
        for server in servers:
            drive(lab, server, connections, 1)  # to warm up
        for number in range(options.rounds):
            # Another proxy begins each round, so that no place in the order is one proxy's own.
            shift = number % len(servers)
            for server in servers[shift:] + servers[:shift]:
                run = drive(lab, server, connections, options.seconds)
                run["round"] = number
                runs.append(run)
                if run["error"]:
                    print(f"INVALID: {run['proxy']}, {connections} connections, round {number + 1}: {run['error']}")
        for server in servers:
            lab.session.stop(server.child)
        print_table(connections, names, summarise(runs, connections, names), options.rounds)
    return runs


def summarise(runs, connections, names):
    """Per proxy the medians over the valid rounds, and the reference's ratio to it."""
    reference = names[0]
    rows = {}
    for name in names:
        own = [r for r in runs if r["connections"] == connections and r["proxy"] == name]
        valid = [r for r in own if not r["error"]]
        row = {"valid": len(valid), "rounds": len(own)}
        if valid:
            row.update({metric: median(r[metric] for r in valid) for metric in METRICS})
            row["rss_kib"] = valid[-1]["rss_kib"]
        for metric in ("rps", "cpu_us"):
            row[f"{metric}_ratio"] = paired_ratio(runs, connections, reference, name, metric)
        rows[name] = row
    return rows


def paired_ratio(runs, connections, reference, name, metric):
    """Median over the rounds of reference/name within one round; None without a valid pair."""
    by_round = {}
    for run in runs:
        if run["connections"] == connections and not run["error"] and run[metric] > 0:
            by_round.setdefault(run["round"], {})[run["proxy"]] = run[metric]
    ratios = [r[reference] / r[name] for r in by_round.values() if reference in r and name in r]
    return median(ratios) if ratios else None


def print_table(connections, names, rows, rounds):
    reference = names[0]
    print(f"\n{connections} connection(s), median of {rounds} round(s)")
    print(
        f"{'proxy':<12} {'req/s':>9} {'p50 us':>8} {'p99 us':>8} {'CPU us/req':>11} {'CPU %':>6} {'RSS MiB':>8}"
        f"  {reference + ' req/s x':>14} {reference + ' CPU x':>13}"
    )
    for name in names:
        row = rows[name]
        if not row["valid"]:
            print(f"{name:<12} INVALID")
            continue
        ratios = "".join(
            f" {'-' if name == reference or row[key] is None else format(row[key], '.2f'):>{width}}"
            for key, width in (("rps_ratio", 15), ("cpu_us_ratio", 13))
        )
        partial = "" if row["valid"] == row["rounds"] else f"  ({row['rounds'] - row['valid']} invalid)"
        print(
            f"{name:<12} {row['rps']:>9.0f} {row['p50_us']:>8.0f} {row['p99_us']:>8.0f} {row['cpu_us']:>11.1f}"
            f" {row['cpu_share'] * 100:>6.0f} {row['rss_kib'] / 1024:>8.1f}{ratios}{partial}"
        )
