"""The upstream servers and the proxies under test, as configured by the templates beside this file."""

import glob
import http.client
import os
import shutil
import string

from procs import BenchError, free_port, wait_until
from tables_config import envoy_hosts, haproxy_hosts, haproxy_routes, nginx_hosts, nginx_routes

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BODY = ("0123456789abcdef" * 64)[:1023] + "."

# name: (template, configuration file name, has an admin port)
KINDS = {
    "legate": ("envoy.yaml.in", "legate.yaml", True),
    "envoy": ("envoy.yaml.in", "envoy.yaml", True),
    "nginx": ("nginx.conf.in", "nginx.conf", False),
    "haproxy": ("haproxy-http.cfg.in", "haproxy.cfg", False),
    "haproxy-tcp": ("haproxy-tcp.cfg.in", "haproxy.cfg", False),
}


def find_program(name, options):
    """The path of a proxy's binary, or None."""
    if name == "legate":
        path = options.legate or os.path.join(ROOT, "target/dist/legate")
        return path if os.access(path, os.X_OK) else None
    if name == "envoy":
        if options.envoy:
            return options.envoy if os.access(options.envoy, os.X_OK) else None
        found = glob.glob(os.path.join(ROOT, ".venv/lib/python3*/site-packages/envoy/_bin/envoy"))
        return found[0] if found else None
    return shutil.which("haproxy" if name.startswith("haproxy") else name)


def version_of(name, program, session):
    """The first line of what the program says about its version, or "unknown"."""
    flag = {"nginx": "-v", "haproxy": "-v", "haproxy-tcp": "-v"}.get(name, "--version")
    try:
        lines = session.run(f"{name}-version", [program, flag], timeout=20).split("\n")
        return next((line.strip() for line in lines if line.strip()), "unknown")
    except (BenchError, OSError):
        return "unknown"


def render(template, path, values):
    with open(os.path.join(HERE, template)) as f:
        text = string.Template(f.read()).substitute(values)
    with open(path, "w") as f:
        f.write(text)


def get(port, path="/", timeout=5):
    """(status, body) of a GET, or None when nobody answers yet."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def host_values(name, hosts, routes, port, directory):
    """What the templates have for virtual hosts, and for the routes of a single one."""
    if name == "nginx":
        size = "" if hosts == 1 else f"    server_names_hash_max_size {4 * hosts};\n    server_names_hash_bucket_size 128;\n"
        return {"hosts": nginx_hosts(hosts, port), "routes": nginx_routes(routes), "hash_size": size}
    if name == "haproxy" and hosts > 1:
        path = write(directory, "hosts.map", haproxy_hosts(hosts))
        return {"backend": f"use_backend %[req.hdr(host),host_only,lower,map({path},none)]"}
    if name == "haproxy" and routes > 1:
        path = write(directory, "routes.map", haproxy_routes(routes))
        return {"backend": f"use_backend %[path,map_beg({path},none)]"}
    if name == "haproxy":
        return {"backend": "default_backend service"}
    return {"hosts": envoy_hosts(hosts, routes), "ignore_port": "true" if hosts > 1 else "false"}


def write(directory, name, text):
    path = os.path.join(directory, name)
    with open(path, "w") as f:
        f.write(text)
    return path


class Server:
    """A started server: an upstream or a proxy."""

    def __init__(self, name, child, port, admin=None):
        self.name = name
        self.child = child
        self.port = port
        self.admin = admin
        self.url = f"http://127.0.0.1:{port}/"

    def stats(self):
        """Counters and gauges of the admin port by name."""
        answer = get(self.admin, "/stats")
        if not answer or answer[0] != 200:
            raise BenchError(f"{self.name}: /stats answered {answer and answer[0]}")
        pairs = (line.rpartition(": ") for line in answer[1].splitlines())
        return {name: int(value) for name, _, value in pairs if value.isdigit()}


class Lab:
    """Starts servers within a session, each with fresh ports."""

    def __init__(self, session, options, nofile, cpus):
        self.session = session
        self.options = options
        self.nofile = nofile
        self.proxy_cpus, self.other_cpus = cpus
        self.upstream_ports = None
        self.started = 0

    def start_upstreams(self):
        self.upstream_ports = (free_port(), free_port())
        directory = self.session.subdir("upstream")
        config = os.path.join(directory, "nginx.conf")
        render("upstream.conf.in", config, self.values(directory, body=BODY))
        argv = [nginx_program(), "-p", directory, "-c", config, "-e", f"{directory}/start.log"]
        child = self.session.start("upstream", argv, self.other_cpus)
        for port in self.upstream_ports:
            self.wait_for(Server("upstream", child, port))
        return child

    def start_proxy(self, name, before=(), after=(), patience=20, hosts=1, routes=1, filters=""):
        """Starts a proxy; `before` and `after` are put around its command line, as for valgrind. It has so many virtual
        hosts, or so many routes in one, and these filters before its router."""
        template, file_name, has_admin = KINDS[name]
        self.started += 1
        directory = self.session.subdir(f"{name}-{self.started}")
        port = free_port()
        admin = free_port() if has_admin else None
        config = os.path.join(directory, file_name)
        more = {**host_values(name, hosts, routes, port, directory), "filters": filters}
        render(template, config, self.values(directory, port=port, admin=admin, **more))
        argv = self.proxy_argv(name, directory, config)
        argv = [*before, *argv, *after]
        child = self.session.start(f"{name}-{self.started}", argv, self.proxy_cpus)
        server = Server(name, child, port, admin)
        self.wait_for(server, patience)
        return server

    def values(self, directory, **more):
        one, two = self.upstream_ports
        # nginx counts both sides of a request as connections, and so do the limits on files.
        connections = max(self.nofile - 200, 1024)
        return {
            "dir": directory,
            "nofile": self.nofile,
            "connections": connections,
            "concurrency": self.options.concurrency,
            "upstream1": one,
            "upstream2": two,
            **more,
        }

    def proxy_argv(self, name, directory, config):
        program = find_program(name, self.options)
        if name in ("legate", "envoy"):
            workers = str(self.options.concurrency)
            return [program, "-c", config, "--concurrency", workers, "--disable-hot-restart", "-l", "warning"]
        if name == "nginx":
            return [program, "-p", directory, "-c", config, "-e", f"{directory}/start.log"]
        return [program, "-f", config, "-db"]

    def wait_for(self, server, patience=20):
        """Waits for the first good answer and checks that it is the upstream's."""

        def answered():
            if not server.child.alive():
                raise BenchError(f"{server.name} ended at once:\n{server.child.log_tail()}")
            answer = get(server.port)
            return answer if answer and answer[0] == 200 else None

        status_body = wait_until(f"{server.name} answers on port {server.port}", patience, answered)
        if status_body[1] != BODY:
            raise BenchError(f"{server.name} answers with another body than the upstream's")


def nginx_program():
    program = shutil.which("nginx")
    if not program:
        raise BenchError("nginx is needed for the upstream servers (package nginx-light)")
    return program
