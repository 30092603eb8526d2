#!/usr/bin/env python3
"""Checks a Chrome trace, as `GET /trace?format=chrome` writes it, and answers questions about it.

    curl -s 'http://ADMIN/trace?format=chrome' > trace.json
    tests/trace_events.py trace.json                    the violations, one per line; status 1 if there are any
    tests/trace_events.py --report trace.json           what the queries below answer, for people
    tests/trace_events.py --query longest_pass trace.json   what one of them answers, tab-separated
    tests/trace_events.py --sql 'SELECT ...' trace.json     the same for any query
    tests/trace_events.py --print-sql longest_pass      its SQL, for Perfetto's trace_processor_shell
    tests/trace_events.py --processor SHELL trace.json  whether that program loads the trace and answers the same
    tests/trace_events.py --self-test                   that broken traces are found, and what is found in good ones

FILE may be `-` for standard input. Only Python's standard library is needed.

The rules are those of the Trace Event Format for the phases that legate writes (B E i C s f M), made stricter
where Perfetto's JSON importer (src/trace_processor/importers/json) takes something else than is meant or drops
it in silence. A violation names its event by its index in `traceEvents`.

The tables are the trace processor's as far as the queries need them: process, thread, thread_track, slice, args,
flow, counter_track and counter, with its column names, its slice ids and its function EXTRACT_ARG. A thread's
instants are slices without duration there, and so they are here. No registry has that program, so the tests go by
these tables; where it is at hand, --processor lays both side by side.
"""

import argparse
import copy
import csv
import json
import math
import os
import re
import sqlite3
import subprocess
import sys
import tempfile

PHASES = "BEiCsfM"
MAX_DEPTH = 512
NAMES = {"process_name": "name", "thread_name": "name", "process_sort_index": "sort_index",
         "thread_sort_index": "sort_index"}

# One request is one newStream on a worker; the admin's are on the main thread. A request is whole if its
# beginning and its end are both in the trace. Each stage counts once, however long it takes.
_STAGES = """
WITH stage AS (
  SELECT slice.id, slice.name, EXTRACT_ARG(slice.arg_set_id, 'args.stream') AS stream
  FROM slice JOIN thread_track ON slice.track_id = thread_track.id JOIN thread USING (utid)
  WHERE thread.name GLOB 'worker_*'
), request AS (
  SELECT stream, MIN(id) AS first, COUNT(*) AS stages, GROUP_CONCAT(name, ' ') AS names
  FROM (SELECT * FROM stage WHERE stream IS NOT NULL ORDER BY id)
  GROUP BY stream
  HAVING SUM(name = 'ConnectionManagerImpl::newStream') > 0
    AND SUM(name = 'ConnectionManagerImpl::doDeferredStreamDestroy') > 0
)"""

_LONGEST_PASS = """
longest AS (
  SELECT slice.id, slice.dur, slice.arg_set_id, thread.name AS worker
  FROM slice JOIN thread_track ON slice.track_id = thread_track.id JOIN thread USING (utid)
  WHERE slice.name = 'pass' AND thread.name GLOB 'worker_*'
  ORDER BY slice.dur DESC, slice.id LIMIT 1
)"""

QUERIES = {
    "requests_per_worker": """
SELECT thread.name AS worker, SUM(slice.name = 'ConnectionManagerImpl::newStream') AS requests
FROM slice JOIN thread_track ON slice.track_id = thread_track.id JOIN thread USING (utid)
WHERE thread.name GLOB 'worker_*'
GROUP BY thread.utid, thread.name
ORDER BY worker""",
    "longest_pass": f"""
WITH {_LONGEST_PASS}
SELECT worker, EXTRACT_ARG(arg_set_id, 'args.pass') AS pass, dur AS nanoseconds FROM longest""",
    "in_longest_pass": f"""
WITH RECURSIVE {_LONGEST_PASS}, inside(id, name) AS (
  SELECT slice.id, slice.name FROM slice JOIN longest ON slice.parent_id = longest.id
  UNION ALL
  SELECT slice.id, slice.name FROM slice JOIN inside ON slice.parent_id = inside.id
)
SELECT name, COUNT(*) AS times FROM inside GROUP BY name ORDER BY times DESC, name""",
    "stages_per_request": f"""{_STAGES}, ranked AS (
  SELECT stages, ROW_NUMBER() OVER (ORDER BY stages) AS rank, COUNT(*) OVER () AS total FROM request
)
SELECT COUNT(*) AS requests, MIN(stages) AS least,
  MAX(CASE WHEN rank = (total + 1) / 2 THEN stages END) AS median, MAX(stages) AS most
FROM ranked""",
    "stages_of_first_request": f"""{_STAGES}
SELECT stage.name FROM stage JOIN request USING (stream)
WHERE request.first = (SELECT MIN(first) FROM request)
ORDER BY stage.id""",
    "stages_of_each_request": f"""{_STAGES}
SELECT stream, names FROM request ORDER BY first""",
}

SCHEMA = """
CREATE TABLE process(upid INTEGER PRIMARY KEY, pid INTEGER, name TEXT);
CREATE TABLE thread(utid INTEGER PRIMARY KEY, tid INTEGER, name TEXT, upid INTEGER, is_main_thread INTEGER);
CREATE TABLE thread_track(id INTEGER PRIMARY KEY, name TEXT, utid INTEGER);
CREATE TABLE counter_track(id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE slice(id INTEGER PRIMARY KEY, ts INTEGER, dur INTEGER, track_id INTEGER, category TEXT, name TEXT,
  depth INTEGER, parent_id INTEGER, arg_set_id INTEGER);
CREATE INDEX slice_parent ON slice(parent_id);
CREATE TABLE counter(id INTEGER PRIMARY KEY, ts INTEGER, track_id INTEGER, value REAL);
CREATE TABLE flow(slice_out INTEGER, slice_in INTEGER, trace_id INTEGER);
CREATE TABLE args(id INTEGER PRIMARY KEY, arg_set_id INTEGER, flat_key TEXT, key TEXT, int_value INTEGER,
  string_value TEXT, real_value REAL, value_type TEXT);
"""


def is_int(value):
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value):
    return is_int(value) or isinstance(value, float) and math.isfinite(value)


def is_text(value):
    return isinstance(value, str) and value != ""


def flow_id(value):
    """The number that Perfetto makes of an id: of a string, as hexadecimal; None for what does not fit 64 bits."""
    if is_int(value) and 0 <= value < 1 << 63:
        return value
    if isinstance(value, str) and re.fullmatch("(0x)?[0-9a-fA-F]{1,16}", value):
        return int(value, 16)
    return None


def nanoseconds(event):
    """The time as the importer has it."""
    return math.floor(event["ts"] * 1000 + 0.5)


def wrong_fields(event):
    """What is wrong with an event by itself."""
    if not isinstance(event, dict):
        return ["is no object"]
    phase = event.get("ph")
    if not isinstance(phase, str) or len(phase) != 1 or phase not in PHASES:
        return [f"ph is {phase!r}, not one of {PHASES}"]
    wrong = []
    for key in ("pid", "tid"):
        if not is_int(event.get(key)) or not 0 < event[key] < 1 << 32:
            wrong.append(f"{key} is {event.get(key)!r}, not a number from 1 (0 stands for none) to 2^32-1")
    if phase != "M" or "ts" in event:
        if not is_number(event.get("ts")) or not 0 <= event["ts"] < 1 << 53:
            wrong.append(f"ts is {event.get('ts')!r}, not a number of microseconds")
    if (phase != "E" or "name" in event) and not is_text(event.get("name")):
        wrong.append("name is missing or no text")
    if "cat" in event and not is_text(event["cat"]):
        wrong.append("cat is no text")
    args = event.get("args", {})
    if not isinstance(args, dict):
        return wrong + ["args is no object"]
    if phase == "i" and event.get("s", "t") not in ("t", "p", "g"):
        wrong.append(f"s is {event['s']!r}, not t, p or g")
    if phase == "C" and (not args or not all(map(is_number, args.values()))):
        wrong.append("a counter's args are numbers, at least one")
    if phase in "sf" and flow_id(event.get("id")) is None:
        wrong.append(f"id is {event.get('id')!r}, not a number and not hexadecimal of 64 bits at most")
    if phase in "sf" and event.get("bp", "e") != "e" or phase == "f" and "bp" not in event:
        wrong.append("bp is not 'e': the arrow would end at the next slice")
    if phase == "M":
        wrong += wrong_metadata(event, args)
    return wrong


def wrong_metadata(event, args):
    key = NAMES.get(event.get("name"))
    if key is None:
        return [f"metadata {event.get('name')!r} is none of {', '.join(NAMES)}"]
    fits = is_text if key == "name" else is_int
    return [] if fits(args.get(key)) else [f"args.{key} is {args.get(key)!r}"]


class Trace:
    """A trace on its way into the tables. What is wrong is in `violations`, pairs of an index and a text."""

    def __init__(self, document):
        self.violations = []
        self.db = sqlite3.connect(":memory:")
        self.db.executescript(SCHEMA)
        self.db.create_function("EXTRACT_ARG", 2, self.extract_arg, deterministic=True)
        self.arg_sets = []
        self.slices = []  # as lists, in the order of the columns
        self.threads = {}  # (pid, tid): utid
        self.tracks = {}  # key: id
        self.stacks = {}  # track: [(slice, index of its event)]
        self.last_time = {}  # (pid, tid): time
        self.names = {}  # (what, pid, tid): name
        self.flows = {}  # (cat, name, id): [index of s, its slice, its number, whether it has ended]
        events = self.events_of(document)
        self.load(events)
        self.finish()

    def wrong(self, index, text):
        self.violations.append((index, text))

    def events_of(self, document):
        """The events that are right by themselves, with their indexes, in the importer's order."""
        if isinstance(document, dict):
            document = document.get("traceEvents")
        if not isinstance(document, list):
            self.wrong(-1, "traceEvents is no array")
            return []
        good = []
        for index, event in enumerate(document):
            wrong = wrong_fields(event)
            for text in wrong:
                self.wrong(index, text)
            if not wrong:
                good.append((index, event))
                if event["ph"] != "M":
                    self.check_order(index, event)
        metadata = [pair for pair in good if pair[1]["ph"] == "M"]
        for index, event in metadata:
            self.name(index, event)
        return sorted((pair for pair in good if pair[1]["ph"] != "M"), key=lambda pair: nanoseconds(pair[1]))

    def check_order(self, index, event):
        thread = (event["pid"], event["tid"])
        if event["ts"] < self.last_time.get(thread, 0):
            self.wrong(index, f"ts is before that of the thread's previous event, {self.last_time[thread]}")
        self.last_time[thread] = event["ts"]

    def name(self, index, event):
        what, pid = event["name"], event["pid"]
        if NAMES[what] != "name":
            return
        key = (what, pid, event["tid"] if what == "thread_name" else 0)
        if key in self.names:
            self.wrong(index, f"the second {what} of the same number")
        name = event["args"]["name"]
        if what == "thread_name" and any(k[:2] == key[:2] and n == name for k, n in self.names.items()):
            self.wrong(index, f"two threads are named {name!r}")
        self.names.setdefault(key, name)

    def load(self, events):
        for index, event in events:
            time = nanoseconds(event)
            track = self.track_of(index, event)
            phase = event["ph"]
            if phase == "B":
                self.begin(index, event, track, time, -1)
            elif phase == "E":
                self.end(index, event, track, time)
            elif phase == "i":
                self.begin(index, event, track, time, 0)
            elif phase == "C":
                self.count(event, time)
            else:
                self.flow(index, event, track)

    def track_of(self, index, event):
        """The track of an event, and its thread's row if it is new."""
        pid, tid = event["pid"], event["tid"]
        if (pid, tid) not in self.threads:
            self.threads[pid, tid] = len(self.threads) + 1
            name = self.names.get(("thread_name", pid, tid))
            if name is None:
                self.wrong(index, f"thread {tid} of process {pid} has no thread_name")
            if ("process_name", pid, 0) not in self.names:
                self.wrong(index, f"process {pid} has no process_name")
                self.names["process_name", pid, 0] = None
            row = (self.threads[pid, tid], tid, name, pid, tid == pid)
            self.db.execute("INSERT INTO thread VALUES (?, ?, ?, ?, ?)", row)
        scope = event.get("s", "t") if event["ph"] == "i" else "t"
        key = {"t": ("thread", pid, tid), "p": ("process", pid), "g": ("global",)}[scope]
        if key not in self.tracks:
            self.tracks[key] = len(self.tracks)
            if scope == "t":
                row = (self.tracks[key], None, self.threads[pid, tid])
                self.db.execute("INSERT INTO thread_track VALUES (?, ?, ?)", row)
        return self.tracks[key]

    def stack(self, track, time, duration):
        """The slices of a track that something new of that time and duration is in: an instant is over as soon as
        anything but another instant follows."""
        stack = self.stacks.setdefault(track, [])
        while stack and stack[-1][0][2] == 0:
            if stack[-1][0][1] == time and duration == 0:
                break
            stack.pop()
        return stack

    def begin(self, index, event, track, time, duration):
        stack = self.stack(track, time, duration)
        if len(stack) >= MAX_DEPTH:
            return self.wrong(index, f"deeper than {MAX_DEPTH} slices")
        parent = stack[-1][0][0] if stack else None
        args = self.add_args(event.get("args"))
        row = [len(self.slices), time, duration, track, event.get("cat"), event["name"], len(stack), parent, args]
        self.slices.append(row)
        stack.append((row, index))

    def end(self, index, event, track, time):
        stack = self.stack(track, time, -1)
        if not stack:
            return self.wrong(index, "E without a B")
        row, begun = stack.pop()
        for key, value in (("cat", row[4]), ("name", row[5])):
            if key in event and event[key] != value:
                self.wrong(index, f"{key} is {event[key]!r}, that of the B at {begun} is {value!r}: it stays open")
        row[2] = time - row[1]

    def count(self, event, time):
        for key, value in event["args"].items():
            name = f"{event['name']} {key}"
            track = ("counter", event["pid"], name)
            if track not in self.tracks:
                self.tracks[track] = len(self.tracks)
                self.db.execute("INSERT INTO counter_track VALUES (?, ?)", (self.tracks[track], name))
            self.db.execute("INSERT INTO counter VALUES (NULL, ?, ?, ?)", (time, self.tracks[track], value))

    def flow(self, index, event, track):
        stack = self.stacks.get(track)
        if not stack:
            return self.wrong(index, f"flow {event['ph']} in no slice")
        at, number = stack[-1][0][0], flow_id(event["id"])
        key = (event.get("cat"), event["name"], number)
        flow = self.flows.get(key)
        if event["ph"] == "s":
            if flow:
                return self.wrong(index, f"flow {event['id']!r} has begun at {flow[0]}")
            self.flows[key] = [index, at, len(self.flows), False]
        elif flow is None:
            self.wrong(index, f"flow f {event['id']!r} without an s before it")
        elif flow[3]:
            self.wrong(index, f"flow {event['id']!r} has ended before")
        else:
            flow[3] = True
            self.db.execute("INSERT INTO flow VALUES (?, ?, ?)", (flow[1], at, flow[2]))

    def add_args(self, args):
        """The importer's rows for an event's args, as far as they are plain values."""
        if not args:
            return None
        number = len(self.arg_sets)
        self.arg_sets.append({f"args.{key}": value for key, value in args.items()})
        for key, value in self.arg_sets[-1].items():
            kind = "int" if is_int(value) else "real" if is_number(value) else "string"
            columns = [value if kind == k else None for k in ("int", "string", "real")]
            row = (number, key, key, *columns, kind)
            self.db.execute("INSERT INTO args VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", row)
        return number

    def extract_arg(self, number, key):
        return None if number is None else self.arg_sets[number].get(key)

    def finish(self):
        for stack in self.stacks.values():
            for row, index in stack:
                if row[2] == -1:
                    self.wrong(index, f"B {row[5]!r} without an E")
        for key, (index, _, _, ended) in self.flows.items():
            if not ended:
                self.wrong(index, f"flow s {key[2]:#x} without an f")
        self.db.executemany("INSERT INTO slice VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", self.slices)
        processes = ((pid, pid, name) for (what, pid, _), name in self.names.items() if what == "process_name")
        self.db.executemany("INSERT INTO process VALUES (?, ?, ?)", processes)
        self.violations.sort(key=lambda violation: violation[0])

    def ask(self, sql):
        """The answer's column names and rows."""
        cursor = self.db.execute(sql)
        return [column[0] for column in cursor.description], cursor.fetchall()

    def rows(self, name):
        return self.ask(QUERIES[name])[1]


def report(trace):
    print("requests per worker:")
    for worker, requests in trace.rows("requests_per_worker"):
        print(f"  {worker}: {requests}")
    for worker, number, duration in trace.rows("longest_pass"):
        print(f"longest pass: {duration / 1000:.3f} us, number {number} of {worker}; in it:")
    for name, times in trace.rows("in_longest_pass"):
        print(f"  {times:5} {name}")
    for requests, least, median, most in trace.rows("stages_per_request"):
        print(f"stages of the {requests} whole requests: {least} at least, {median} median, {most} at most")
    print("stages of the first one:")
    for (name,) in trace.rows("stages_of_first_request"):
        print(f"  {name}")


# What --processor asks beside the queries: that nothing was dropped, and that what has a beginning has an end inside
# of what is around it.
CHECKS = {
    "slices": "SELECT COUNT(*) FROM slice",
    "arrows": "SELECT COUNT(*) FROM flow",
    "counters": "SELECT COUNT(*) FROM counter",
    "slices without an end": "SELECT COUNT(*) FROM slice WHERE dur < 0",
    "slices that stick out": """SELECT COUNT(*) FROM slice AS inner JOIN slice AS outer ON inner.parent_id = outer.id
WHERE inner.ts + inner.dur > outer.ts + outer.dur""",
}
LOADED = "SELECT name, value FROM stats WHERE value != 0 AND severity != 'info'"


def processed(shell, path, sql):
    """What trace_processor_shell answers, as rows of texts."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(sql.strip() + ";\n")
        file.flush()
        done = subprocess.run([shell, "-q", file.name, path], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return list(csv.reader(done.stdout.splitlines()))[1:]


def compare(shell, trace, document):
    """Asks both for everything; the status to exit with."""
    status = 0
    with tempfile.TemporaryDirectory(prefix="trace-") as directory:
        path = os.path.join(directory, "trace.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(document, file)
        for name, sql in {**CHECKS, **QUERIES}.items():
            own = [["" if value is None else str(value) for value in row] for row in trace.ask(sql)[1]]
            theirs = processed(shell, path, sql)
            status |= own != theirs
            print(f"{name}: " + (f"equal, {len(own)} rows" if own == theirs else f"{theirs}, here {own}"))
        errors = processed(shell, path, LOADED)
        print(f"errors while loading: {errors or 'none'}")
    return status | bool(errors)


def good_trace():
    """A small trace of two workers with one request each; the second one's stages all happen at once."""
    at = {"pid": 1, "tid": 2}

    def one(ph, ts, name, **more):
        return {"ph": ph, "ts": ts, "name": name, "cat": "c", **at, **more}

    def request(stream, times, pass_number):
        def stage(ph, name, **more):
            return one(ph, next(times), name, args={"stream": stream}, **more)

        return [
            one("B", next(times), "pass", args={"pass": pass_number}),
            one("B", next(times), "callback: fd event"),
            stage("i", "ConnectionManagerImpl::newStream", s="t"),
            stage("B", "Filter::decodeHeaders"),
            stage("i", "ConnPoolImpl::newStream", s="t"),
            one("s", next(times), "request", id=stream),
            one("C", next(times), "pool 0", args={"pending": 1, "busy": 0}),
            one("E", next(times), "Filter::decodeHeaders"),
            stage("i", "ConnPoolImpl::attachRequestToClient", s="t"),
            one("f", next(times), "request", id=stream, bp="e"),
            stage("i", "ConnectionManagerImpl::doDeferredStreamDestroy", s="t"),
            {"ph": "E", "ts": next(times), **at},
            {"ph": "E", "ts": next(times), **at},
        ]

    def meta(tid, what, name):
        return {"ph": "M", "pid": 1, "tid": tid, "name": what, "args": {"name": name}}

    events = [meta(1, "process_name", "legate"), meta(2, "thread_name", "worker_0")]
    events += request("0xa", (n / 2 for n in range(100)), 7)
    at = {"pid": 1, "tid": 3}
    events += [meta(3, "thread_name", "worker_1")] + request("0xb", (9 for _ in range(100)), 8)
    return events


def broken_traces():
    """What to do to the good trace, and what has to be found at which index."""

    def change(index, **fields):
        return lambda events: events[index].update(fields)

    def remove(index, *keys):
        return lambda events: [events[index].pop(key) for key in keys]

    def drop(index):
        return lambda events: events.pop(index)

    def insert(index, like, **fields):
        return lambda events: events.insert(index, {**events[like], **fields})

    def deepen(events):
        events[2:2] = [copy.copy(events[2]) for _ in range(MAX_DEPTH)]

    return [
        (drop(9), 2, "B 'pass' without an E"),
        (drop(14), 2, "B 'pass' without an E"),
        (insert(15, 14), 15, "E without a B"),
        (drop(11), 7, "flow s 0xa without an f"),
        (drop(7), 10, "without an s before it"),
        (insert(8, 7), 8, "has begun at 7"),
        (insert(12, 11), 12, "has ended before"),
        (remove(11, "bp"), 11, "bp is not 'e'"),
        (insert(2, 7, id="0xc", ts=0), 2, "flow s in no slice"),
        (change(7, id="18446744073709551615"), 7, "64 bits"),
        (change(7, id=-1), 7, "64 bits"),
        (remove(7, "id"), 7, "id is None"),
        (change(9, name="Filter"), 9, "it stays open"),
        (change(9, cat="other"), 9, "it stays open"),
        (change(4, tid=0), 4, "tid is 0"),
        (change(4, pid="1"), 4, "pid is '1'"),
        (change(4, ts="1"), 4, "ts is '1'"),
        (change(4, ts=True), 4, "ts is True"),
        (change(4, ts=0.2), 4, "before that of the thread's previous event"),
        (remove(3, "name"), 3, "name is missing"),
        (change(3, cat=7), 3, "cat is no text"),
        (change(3, args=[]), 3, "args is no object"),
        (change(3, ph="Z"), 3, "ph is 'Z'"),
        (remove(3, "ph"), 3, "ph is None"),
        (change(4, s="x"), 4, "not t, p or g"),
        (change(8, args={"pending": "1"}), 8, "args are numbers"),
        (change(8, args={}), 8, "args are numbers"),
        (drop(0), 1, "has no process_name"),
        (drop(1), 1, "has no thread_name"),
        (change(15, args={"name": "worker_0"}), 15, "two threads are named 'worker_0'"),
        (insert(1, 0), 1, "second process_name"),
        (change(1, args={}), 1, "args.name is None"),
        (change(0, name="name"), 0, "metadata 'name' is none of"),
        (lambda events: events.insert(0, 5), 0, "is no object"),
        (deepen, 514, "deeper than 512"),
    ]


def self_test():
    """Whether what is right passes and each thing that is wrong is found; the status to exit with."""
    failures = []

    def expect(what, got, wanted):
        if got != wanted:
            failures.append(f"{what}: {got!r}, not {wanted!r}")

    trace = Trace({"traceEvents": good_trace()})
    expect("violations of a good trace", trace.violations, [])
    expect("requests", trace.rows("requests_per_worker"), [("worker_0", 1), ("worker_1", 1)])
    expect("longest pass", trace.rows("longest_pass"), [("worker_0", 7, 6000)])
    expect("in it", trace.rows("in_longest_pass")[0], ("ConnPoolImpl::attachRequestToClient", 1))
    expect("things in it", len(trace.rows("in_longest_pass")), 6)
    expect("stages", trace.rows("stages_per_request"), [(2, 5, 5, 5)])
    expect("of the first", trace.rows("stages_of_first_request")[1], ("Filter::decodeHeaders",))
    arrows = "SELECT o.name, i.name FROM flow JOIN slice o ON o.id = slice_out JOIN slice i ON i.id = slice_in"
    arrow = ("ConnPoolImpl::newStream", "ConnPoolImpl::attachRequestToClient")
    expect("arrows", trace.ask(arrows)[1], [arrow, arrow])
    expect("counters", trace.ask("SELECT COUNT(*) FROM counter")[1], [(4,)])
    expect("no array", Trace({}).violations, [(-1, "traceEvents is no array")])
    for damage, index, text in broken_traces():
        events = copy.deepcopy(good_trace())
        damage(events)
        found = Trace(events).violations
        if not any(i == index and text in t for i, t in found):
            failures.append(f"{text!r} at {index} is not among {found[:5]}")
    for failure in failures:
        print(failure)
    print(f"{len(failures)} failures" if failures else "ok")
    return 1 if failures else 0


def main():
    lines = __doc__.splitlines()
    parser = argparse.ArgumentParser(description=lines[0])
    parser.add_argument("file", nargs="?", help="a trace, - for standard input")
    parser.add_argument("--report", action="store_true", help="answer all queries, for people")
    parser.add_argument("--query", choices=QUERIES, help="answer one of the queries, tab-separated")
    parser.add_argument("--sql", help="answer another query, tab-separated")
    parser.add_argument("--print-sql", choices=QUERIES, help="print the SQL of a query")
    parser.add_argument("--processor", metavar="SHELL", help="compare with Perfetto's trace_processor_shell")
    parser.add_argument("--self-test", action="store_true", help="check this program")
    options = parser.parse_args()
    if options.self_test:
        return self_test()
    if options.print_sql:
        print(QUERIES[options.print_sql].strip())
        return 0
    if options.file is None:
        parser.error("which trace?")
    try:
        with sys.stdin if options.file == "-" else open(options.file, encoding="utf-8") as file:
            document = json.load(file)
        trace = Trace(document)
    except (OSError, ValueError) as error:
        print(f"{options.file}: {error}")
        return 1
    for index, text in trace.violations:
        print(f"event {index}: {text}")
    if trace.violations:
        return 1
    if options.processor:
        return compare(options.processor, trace, document)
    if options.report:
        report(trace)
    sql = QUERIES.get(options.query, options.sql)
    if sql:
        columns, rows = trace.ask(sql)
        for row in [columns, *rows]:
            print("\t".join("" if value is None else str(value) for value in row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
