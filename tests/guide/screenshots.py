#!/usr/bin/env python3
"""Screenshots of /trace/ui in headless Chromium, 1280 pixels wide, light and dark.

    python3 tests/guide/screenshots.py [DIRECTORY]

Plays a first request, a second one on the same connections, and three requests with max_connections 1, and takes
the pictures of them into DIRECTORY (target/screenshots). With --readme, takes only the README's, into docs/images.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time

from lab import ROOT, SKIPPED, Peer, Proxy, bootstrap, client, listen

README = os.path.join(ROOT, "docs", "images", "trace-ui.png")
# Name, which scenario, what follows `#` in the address, height.
VIEWS = [
    ("first", "requests", "request=1", 900),
    ("first-step", "requests", "request=1&step=22", 900),
    ("reused", "requests", "request=2", 900),
    ("reused-step", "requests", "request=2&step=17", 900),
    ("pending", "queue", "request=3", 900),
    ("pending-step", "queue", "request=3&step=16", 900),
    ("every", "requests", "request=1&every=1", 900),
    ("failed", "failed", "mark=failed", 900),
    ("empty", "nothing", "", 900),
]


def requests(proxy, upstream):
    """Two requests, one after the other, on the same connections."""
    a = client(proxy.port)
    a.get("/first")
    peer = Peer(upstream.accept()[0])
    peer.read_head()
    time.sleep(0.002)  # an upstream takes its time
    peer.answer("hello")
    a.read_response()
    a.get("/second")
    peer.read_head()
    peer.answer("hello")
    a.read_response()
    return [a, peer]


def queue(proxy, upstream):
    """Three requests for one upstream connection."""
    clients = [client(proxy.port) for _ in range(3)]
    for number, one in enumerate(clients):
        one.get(f"/{'abc'[number]}")
        proxy.wait_for("upstream_rq_pending_total", number + 1)
        if number == 0:
            peer = Peer(upstream.accept()[0])
            peer.read_head()
    for number, one in enumerate(clients):
        if number:
            peer.read_head()
        time.sleep(0.001)
        peer.answer("hello")
        one.read_response()
    return clients + [peer]


def failed(proxy, upstream):
    """A request whose upstream closes without an answer."""
    a = client(proxy.port)
    a.get("/dropped")
    peer = Peer(upstream.accept()[0])
    peer.read_head()
    peer.close()
    a.read_response()
    return [a]


def nothing(_proxy, _upstream):
    """No request at all."""
    return []


def screenshot(port, fragment, height, dark, path):
    """One picture."""
    with tempfile.TemporaryDirectory(prefix="guide-") as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        options += ["--hide-scrollbars", f"--window-size=1280,{height}", "--virtual-time-budget=5000"]
        options += ["--blink-settings=preferredColorScheme=" + ("0" if dark else "1")]
        options += [f"--screenshot={path}", f"http://127.0.0.1:{port}/trace/ui#{fragment}"]
        done = subprocess.run(["chromium", *options], capture_output=True, text=True, timeout=60)
        if not os.path.exists(path):
            raise RuntimeError(f"no picture:\n{done.stderr}")


def play(scenario, pictures):
    """Plays a scenario with the recorder on, then takes the pictures."""
    upstream = listen()
    limit = {"circuit_breakers": {"thresholds": [{"max_connections": 1}]}} if scenario is queue else None
    with Proxy("legate", bootstrap([upstream.getsockname()[1]], cluster=limit)) as proxy:
        proxy.ask("POST", "/trace?enable=y")
        ends = scenario(proxy, upstream)
        time.sleep(0.05)  # what comes after the response
        proxy.ask("POST", "/trace?enable=n")
        for fragment, height, dark, path in pictures:
            screenshot(proxy.admin_port, fragment, height, dark, path)
            print(path)
        del ends


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", nargs="?", default=os.path.join(ROOT, "target", "screenshots"))
    parser.add_argument("--readme", action="store_true")
    arguments = parser.parse_args()
    if not shutil.which("chromium"):
        print("chromium is not installed", file=sys.stderr)
        sys.exit(SKIPPED)
    if arguments.readme:
        os.makedirs(os.path.dirname(README), exist_ok=True)
        play(requests, [("request=2&step=18", 800, False, README)])
        return
    os.makedirs(arguments.directory, exist_ok=True)
    for scenario in (requests, queue, failed, nothing):
        pictures = [
            (fragment, height, dark, os.path.join(arguments.directory, f"{name}-{'dark' if dark else 'light'}.png"))
            for name, of, fragment, height in VIEWS
            if of == scenario.__name__
            for dark in (False, True)
        ]
        play(scenario, pictures)


if __name__ == "__main__":
    main()
