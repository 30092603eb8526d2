"""Processes of the benchmark: starting, measuring and ending them."""

import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time

TICKS = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """Something that makes the benchmark impossible; the text is for the user."""


def free_port():
    """A TCP port of 127.0.0.1 that nobody uses at the moment."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def raise_nofile(wanted):
    """Raises the limit on open files to `wanted` where allowed; returns the limit now in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    else:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
        except (ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def parse_cpus(text):
    """Reads `--cpus`: returns the CPU sets (proxy, others), or (None, None) for no pinning.

    `auto` gives the proxy the first allowed CPU and the rest to load and upstreams.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if text == "none" or (text == "auto" and len(allowed) < 2):
        return None, None
    if text == "auto":
        return {allowed[0]}, set(allowed[1:])
    proxy, slash, others = text.partition("/")
    try:
        sets = cpu_list(proxy), cpu_list(others)
    except ValueError:
        slash = ""
    if not slash:
        raise BenchError(f"--cpus {text}: expected auto, none, or PROXY/OTHERS such as 0/1-3")
    for cpus in sets:
        if not cpus <= set(allowed):
            raise BenchError(f"--cpus {text}: only these CPUs are allowed: {allowed}")
    return sets


def cpu_list(text):
    """`0,2-3` as a set of integers; ValueError when it is none."""
    cpus = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return cpus


class Child:
    """A started program with all its descendants, in a session of its own."""

    def __init__(self, name, argv, log_path, cpus=None):
        self.name = name
        self.log_path = log_path

        def before_exec():
            if cpus:
                os.sched_setaffinity(0, cpus)

        with open(log_path, "ab") as log:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=before_exec,
            )
        self.pid = self.process.pid

    def alive(self):
        return self.process.poll() is None

    def log_tail(self):
        with open(self.log_path, errors="replace") as log:
            return "".join(log.readlines()[-15:]).strip()

    def pids(self):
        """The process and its descendants: all of its session."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                stat = read_stat(entry)
                if stat and int(stat[3]) == self.pid:
                    found.append(int(entry))
        return found

    def cpu_seconds(self):
        """User and system time of all threads of all processes so far."""
        stats = [read_stat(pid) for pid in self.pids()]
        return sum(int(s[11]) + int(s[12]) for s in stats if s) / TICKS

    def rss_kib(self):
        """Sum of VmRSS over the processes; pages they share count once for each."""
        total = 0
        for pid in self.pids():
            try:
                with open(f"/proc/{pid}/status") as status:
                    total += sum(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
            except OSError:
                continue  # it has just ended
        return total

    def stop(self):
        """Ends the whole session: politely, and after five seconds by force."""
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


def read_stat(pid):
    """The fields of /proc/PID/stat after the command name (state is 0), or None."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()
    except OSError:
        return None


def interrupt(*_):
    """Lets a request to terminate end the run the way Ctrl-C does."""
    raise KeyboardInterrupt


class Session:
    """The temporary directory and the children of one run; leaving it removes them all."""

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="legate-bench-")
        os.chmod(self.dir, 0o755)  # nginx started by root has workers of another user
        self.children = []
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, interrupt)
        return self

    def __exit__(self, *_):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not cut this short
        for child in reversed(self.children):
            child.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    def subdir(self, name):
        path = os.path.join(self.dir, name)
        os.makedirs(path, exist_ok=True)
        return path

    def start(self, name, argv, cpus=None):
        child = Child(name, argv, os.path.join(self.dir, f"{name}.log"), cpus)
        self.children.append(child)
        return child

    def stop(self, child):
        child.stop()
        self.children.remove(child)

    def run(self, name, argv, cpus=None, timeout=None):
        """Runs a program to its end; returns its output."""
        log = os.path.join(self.dir, f"{name}.log")
        if os.path.exists(log):
            os.remove(log)
        child = self.start(name, argv, cpus)
        try:
            code = child.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{name} did not end within {timeout} s") from None
        finally:
            self.stop(child)
        with open(log, errors="replace") as f:
            output = f.read()
        if code != 0:
            raise BenchError(f"{name} ended with {code}: {output.strip()}")
        return output


def wait_until(what, seconds, ready):
    """Asks `ready()` until it returns something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        answer = ready()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise BenchError(f"{what}: not within {seconds} s")
        time.sleep(0.02)
