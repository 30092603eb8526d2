"""What the guide's runs are made of: a proxy, upstreams that do as told, plain clients, the recorder.

Everything listens on 127.0.0.1 at ports that the system chooses, and ends with the script.
"""

import glob
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LISTENER = "guide"
CLUSTER = "upstreams"
PATIENCE = 20
SKIPPED = 77


def binary(kind):
    """The path of `legate` or `envoy`; ends the script when there is none."""
    given = os.environ.get(f"{kind.upper()}_BIN")
    if kind == "legate":
        built = [os.path.join(ROOT, "target", profile, "legate") for profile in ("debug", "release")]
        built = sorted(filter(os.path.exists, built), key=os.path.getmtime, reverse=True)
    else:
        built = glob.glob(os.path.join(ROOT, ".venv/lib/python3*/site-packages/envoy/_bin/envoy"))
    for path in [given, *built, shutil.which(kind)]:
        if path and os.path.exists(path):
            return path
    print(f"no {kind}; set {kind.upper()}_BIN, or see README.md", file=sys.stderr)
    sys.exit(SKIPPED)


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def bootstrap(ports, cluster=None, route=None, listener=None):
    """A listener whose only route leads to a cluster of hosts on `ports`; each can be given more fields."""
    types = "type.googleapis.com/envoy.extensions.filters."
    # x-envoy-upstream-service-time would make the length of a response depend on the time.
    options = {"@type": types + "http.router.v3.Router", "suppress_envoy_headers": True}
    router = {"name": "router", "typed_config": options}
    manager = {
        "@type": types + "network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": LISTENER,
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": CLUSTER, **(route or {})}}],
                }
            ]
        },
        "http_filters": [router],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    hosts = [{"endpoint": {"address": address(port)}} for port in ports]
    upstreams = {
        "name": CLUSTER,
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": CLUSTER, "endpoints": [{"lb_endpoints": hosts}]},
        **(cluster or {}),
    }
    listener = {
        "name": LISTENER,
        "address": address(0),
        "filter_chains": [{"filters": filters}],
        **(listener or {}),
    }
    return {
        "admin": {"address": address(0)},
        "static_resources": {"listeners": [listener], "clusters": [upstreams]},
    }


class Proxy:
    """A running legate or Envoy. Use it in a `with` statement."""

    def __init__(self, kind, config, workers=1, more=()):
        program = binary(kind)
        self.directory = tempfile.mkdtemp(prefix="guide-")
        path = os.path.join(self.directory, "bootstrap.json")
        with open(path, "w") as file:
            json.dump(config, file)
        admin = os.path.join(self.directory, "admin")
        self.log = open(os.path.join(self.directory, "log"), "w+")
        command = [program, "-c", path, "--concurrency", str(workers), "--disable-hot-restart"]
        command += ["-l", "warning", "--admin-address-path", admin, *more]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log
        )
        self.pid = self.process.pid
        self.admin_port = None
        deadline = time.monotonic() + PATIENCE
        while not self._ready(admin):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.log.seek(0)
                message = self.log.read()
                self.stop()
                raise RuntimeError(f"{kind} is not ready:\n{message}")
            time.sleep(0.01)
        text = self.ask("GET", "/listeners")
        self.port = int(next(l for l in text.splitlines() if l.startswith(LISTENER)).rpartition(":")[2])

    def _ready(self, admin):
        try:
            with open(admin) as file:
                self.admin_port = int(file.read().rpartition(":")[2])
            return self.ask("GET", "/ready").strip() == "LIVE"
        except (OSError, ValueError, http.client.HTTPException):
            return False

    def ask(self, method, path):
        """A request to the admin; the answer's body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=PATIENCE)
        connection.request(method, path)
        body = connection.getresponse().read().decode()
        connection.close()
        return body

    def stats(self, start=""):
        """Counters and gauges whose names begin with `start`."""
        lines = (line.rpartition(": ") for line in self.ask("GET", "/stats").splitlines())
        return {name: int(n) for name, _, n in lines if name.startswith(start) and n.isdigit()}

    def cluster_stats(self, *names):
        """Statistics of the cluster by their last names."""
        stats = self.stats(f"cluster.{CLUSTER}.")
        return {name: stats.get(f"cluster.{CLUSTER}.{name}", 0) for name in names}

    def wait_for(self, name, value):
        """Waits until a statistic of the cluster has reached `value`; nothing but asking tells."""
        deadline = time.monotonic() + PATIENCE
        while self.cluster_stats(name)[name] != value:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{name} is {self.cluster_stats(name)[name]}, not {value}")
            time.sleep(0.005)

    def recorded(self):
        """What legate's recorder holds of the workers."""
        return events_of(self.ask("GET", "/trace?format=json"))

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def thread_names(pid):
    """The names of a process's threads by their ids, as far as the kernel keeps them."""
    names = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/comm") as file:
            names[task] = file.read().strip()
    return names


def strace(path, *options):
    """strace, attached: it writes what it sees to `path`. Ends the script where there is none to be had."""
    if not shutil.which("strace"):
        print("strace is not installed", file=sys.stderr)
        sys.exit(SKIPPED)
    tracer = subprocess.Popen(["strace", "-o", path, *options], stderr=subprocess.PIPE, text=True)
    said = tracer.stderr.readline()
    if "attached" not in said:
        print(said.strip(), file=sys.stderr)
        sys.exit(SKIPPED)
    return tracer


def events_of(lines):
    """The workers' events in what the recorder has written, the oldest first."""
    header, *events = map(json.loads, lines.splitlines())
    names = header["header"]["workers"]
    return [event for event in events if "ph" in event and names[event["w"]] != "main_thread"]


def bind():
    """A socket with a port of its own, on which nobody listens."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


def listen():
    """A listening socket."""
    sock = bind()
    sock.listen(128)
    sock.settimeout(PATIENCE)
    return sock


class Upstream:
    """An HTTP server that answers every request with its name, on as many connections as come."""

    def __init__(self, name):
        self.name = name
        self.socket = listen()
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                peer = Peer(self.socket.accept()[0])
            except OSError:
                return
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer):
        try:
            while peer.read_head():
                peer.answer(self.name)
        except OSError:
            pass


class Peer:
    """One end of a connection, as an upstream or as a client."""

    def __init__(self, sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(PATIENCE)
        self.socket = sock
        self.bytes = b""

    def _more(self):
        piece = self.socket.recv(65536)
        self.bytes += piece
        return bool(piece)

    def read_head(self):
        """Reads up to an empty line and gives that head; empty when the other end closed first."""
        while b"\r\n\r\n" not in self.bytes:
            if not self._more():
                return ""
        head, _, self.bytes = self.bytes.partition(b"\r\n\r\n")
        return head.decode()

    def read_response(self):
        """Reads a response with a content-length; (status, body)."""
        head = self.read_head()
        if not head:
            return None, ""
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:])
        length = int(fields.get("content-length", 0))
        while len(self.bytes) < length and self._more():
            pass
        body, self.bytes = self.bytes[:length], self.bytes[length:]
        return int(head.split()[1]), body.decode()

    def send(self, text):
        self.socket.sendall(text.encode())

    def get(self, path="/"):
        """Sends a request."""
        self.send(f"GET {path} HTTP/1.1\r\nhost: guide\r\n\r\n")

    def answer(self, body="ok", more=""):
        """Sends a response; `more` is further header lines."""
        self.send(f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n{more}\r\n{body}")

    def closed(self):
        """Waits until the other end has closed."""
        try:
            while self._more():
                pass
        except ConnectionResetError:
            pass

    def close(self):
        self.socket.close()


def client(port):
    """A connection to the proxy."""
    return Peer(socket.create_connection(("127.0.0.1", port), PATIENCE))
