"""What a request costs with many virtual hosts or routes, and with a chain of filters: each proxy beside itself."""

from statistics import median

from load import drive

# Filters that look at every request and let it pass, before the router.
FILTERS = """
          - name: envoy.filters.http.cors
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors }
          - name: envoy.filters.http.fault
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault }
          - name: envoy.filters.http.rbac
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
              rules:
                action: ALLOW
                policies:
                  gets: { permissions: [{ header: { name: ":method", string_match: { exact: GET } } }], principals: [{ any: true }] }
          - name: envoy.filters.http.local_ratelimit
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
              stat_prefix: all
              token_bucket: { max_tokens: 4000000000, tokens_per_fill: 4000000000, fill_interval: 1s }
              filter_enabled: { default_value: { numerator: 100 } }
              filter_enforced: { default_value: { numerator: 100 } }
          - name: envoy.filters.http.header_mutation
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation
              mutations:
                request_mutations: [{ append: { header: { key: x-bench, value: "1" } } }]"""


def tables(lab, names, options):
    """Prints what a request costs each proxy by the number of its virtual hosts, or of the routes in one, and with filters;
    returns the runs."""
    runs = []
    for name in names:
        kinds = [(f"{hosts} virtual host(s)", {"hosts": hosts}) for hosts in options.virtual_hosts or ()]
        kinds += [(f"{routes} route(s)", {"routes": routes}) for routes in options.routes or ()]
        if options.filters and name in ("legate", "envoy"):
            kinds.append(("5 filters", {"filters": FILTERS}))
        for connections in options.connections:
            runs.extend(measure(lab, name, kinds, connections, options))
    return runs


def measure(lab, name, kinds, connections, options):
    servers = [(kind, lab.start_proxy(name, patience=120, **more)) for kind, more in kinds]
    runs = []
    for _, server in servers:
        drive(lab, server, connections, 1)  # to warm up
    for number in range(options.rounds):
        shift = number % len(servers)
        for kind, server in servers[shift:] + servers[:shift]:
            run = {**drive(lab, server, connections, options.seconds), "round": number, "kind": kind}
            runs.append(run)
            if run["error"]:
                print(f"INVALID: {name}, {kind}, round {number + 1}: {run['error']}")
    print(f"\n{name}, {connections} connection(s), median of {options.rounds} round(s)")
    print(f"{'':22} {'CPU us/req':>11} {'CPU x':>7} {'RSS MiB':>8}")
    for kind, server in servers:
        own = [run for run in runs if run["kind"] == kind]
        ratio = ratio_to(runs, kinds[0][0], kind)
        print(f"{kind:22} {median(run['cpu_us'] for run in own):>11.1f} {ratio:>7.3f} {own[-1]['rss_kib'] / 1024:>8.1f}")
        lab.session.stop(server.child)
    return runs


def ratio_to(runs, reference, kind):
    """The median of the ratios within one round."""
    by_round = {}
    for run in runs:
        by_round.setdefault(run["round"], {})[run["kind"]] = run["cpu_us"]
    return median(costs[kind] / costs[reference] for costs in by_round.values())
