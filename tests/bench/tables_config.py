"""Virtual hosts and routes as each proxy is told of them. All lead to the same cluster."""

# The host that the load asks for is one of them, in the middle; its port is not looked at.
OWN = "127.0.0.1"


def others(hosts):
    """Names of the virtual hosts but for the one that is asked for: those before it, and those behind."""
    names = [f"host-{number}.example.com" for number in range(hosts - 1)]
    return names[: len(names) // 2], names[len(names) // 2 :]


def other_routes(routes):
    """(kind, path) of the routes before the one that is asked for, which takes all paths: prefixes and paths in turn."""
    kinds = ("prefix", "path")
    return [(kinds[number % 2], f"/route-{number}/with/a/path") for number in range(routes - 1)]


def envoy_hosts(hosts, routes):
    if hosts == 1:
        line = '{{ match: {{ {0}: "{1}" }}, route: {{ cluster: service }} }}'
        all_routes = ",\n                ".join(line.format(*route) for route in [*other_routes(routes), ("prefix", "/")])
        return f'\n            - {{ name: service, domains: ["*"], routes: [{all_routes}] }}'
    before, behind = others(hosts)
    line = '\n            - {{ name: {0}, domains: [{1}], routes: [{{ match: {{ prefix: "/" }}, route: {{ cluster: service }} }}] }}'
    own = line.format("service", OWN)
    return "".join([*(line.format(name, name) for name in before), own, *(line.format(name, name) for name in behind)])


def nginx_hosts(hosts, port):
    before, behind = others(hosts)
    server = "    server {{ listen 127.0.0.1:{1}; server_name {0}; location / {{ proxy_pass http://service; }} }}\n"
    return "".join(server.format(name, port) for name in before + behind)


def haproxy_hosts(hosts):
    before, behind = others(hosts)
    return "".join(f"{name} service\n" for name in [*before, OWN, *behind])


def nginx_routes(routes):
    line = "location {0}{1} {{ proxy_pass http://service; }} "
    return "".join(line.format("= " if kind == "path" else "", path) for kind, path in other_routes(routes))


def haproxy_routes(routes):
    return "".join(f"{path} service\n" for _, path in [*other_routes(routes), ("prefix", "/")])
