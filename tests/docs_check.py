#!/usr/bin/env python3
"""Holds the documentation against the program: runs its commands, looks up what it quotes and where it leads.

    python3 tests/docs_check.py [--update] [--only TEXT] [FILE.md ...]

Without files: README.md and all of docs/. Checked are

- blocks fenced with ```console: `$ command`, then what it prints, and so on. Each command runs as a reader
  would run it: from the repository's root, with nothing added to PATH; what it prints has to be what is
  written, in the first run or in a second one. A comment `<!-- check: times, ids -->` before the block names what
  may differ (see NORMALISATIONS). A command that ends with 77 lacks something, such as Envoy, and is left out
  with a line that says so;
- blocks after `<!-- source: src/x.rs -->`: each run of lines between two `// ...` stands in that file;
- `` `file.rs` › `Type::method` ``: the file is there and defines it. With ENVOY_SOURCE, the path of a
  checkout of Envoy, the same for `` `source/...cc` › `Class::method` ``;
- links to files and headings.

Exit status 1 when something does not match. --update writes what was seen into the blocks that do not match.
"""

import argparse
import difflib
import glob
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PATIENCE = 180
SKIPPED = 77

# What may differ between two runs, by name: patterns and what they are replaced by on both sides.
NORMALISATIONS = {
    # Durations and times of day.
    "times": [(r"\d+(\.\d+)?( ?)(ns|us|ms|s)\b", r"T\2\3"), (r"\d\d:\d\d:\d\d(\.\d+)?", "T")],
    # Connections and streams as Envoy logs them, and fds.
    "ids": [(r"\[?\b[CS]\d+\b\]?", "ID"), (r"\bfd \d+", "fd N")],
    "ports": [(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT")],
    # The numbers that legate-trace gives to reasons: rows of a table, which has new ones from time to time.
    "reasons": [(r"^ *\(\d+\)", "(N)")],
    # Which worker accepts, where round robin starts: how many and in which order.
    "chance": [(r"^worker_\d", "worker_N"), (r"(?<=: )\d+\b", "N"), (r"(?<!\w)[A-C0-9]( [A-C0-9])*$", "*")],
}

DEFINITION = r"\b(?:fn|struct|enum|trait|type|const|static|mod|macro_rules!)\s+{}\b"


class Command:
    """A command of a console block: where it stands, and what is said to come of it."""

    def __init__(self, path, line, text, rules):
        self.path, self.line, self.text, self.rules = path, line, text, rules
        self.expected = []

    def place(self):
        return f"{self.path}:{self.line + 1}"


def normalised(lines, rules):
    patterns = [pattern for rule in rules for pattern in NORMALISATIONS[rule]]
    out = []
    for line in lines:
        for pattern, replacement in patterns:
            line = re.sub(pattern, replacement, line)
        out.append(line.rstrip())
    return out


def blocks(lines):
    """The fenced blocks: (comment before it, language, number of its first line, its lines)."""
    comment, number = "", 0
    while number < len(lines):
        line = lines[number]
        fence = re.match(r"(`{3,})\s*(\w*)", line)
        if not fence:
            found = re.fullmatch(r"<!-- (.*) -->", line.strip())
            if found or line.strip():
                comment = found.group(1) if found else ""
            number += 1
            continue
        first = number + 1
        number = first
        while number < len(lines) and lines[number].strip() != fence.group(1):
            number += 1
        yield comment, fence.group(2), first, lines[first:number]
        comment = ""
        number += 1


def rules_of(comment, place, faults):
    kind, _, names = comment.partition(":")
    if kind != "check":
        return []
    rules = [name.strip() for name in names.split(",")]
    unknown = [rule for rule in rules if rule not in NORMALISATIONS]
    faults.extend(f"{place}: there is no normalisation {rule!r}" for rule in unknown)
    return [rule for rule in rules if rule in NORMALISATIONS]


def commands_of(path, lines, faults):
    """The commands of a page's console blocks."""
    found = []
    for comment, language, first, body in blocks(lines):
        if language != "console":
            continue
        rules = rules_of(comment, f"{path}:{first}", faults)
        if not body or not body[0].startswith("$ "):
            faults.append(f"{path}:{first + 1}: a console block begins with `$ command`")
            continue
        for number, line in enumerate(body, first):
            if line.startswith("$ "):
                found.append(Command(path, number, line[2:], rules))
            else:
                found[-1].expected.append(line)
    return found


def run(text):
    """Runs a command; (status, lines it printed, what it said on standard error)."""
    argv = ["bash", "-c", f"set -o pipefail; {text}"]
    try:
        done = subprocess.run(
            argv,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        return 124, [], f"no end within {PATIENCE} s"
    return done.returncode, done.stdout.splitlines(), done.stderr.strip()


def lacks_something(outcome):
    """Whether a command could not do its work for want of a tool; legate-trace has no status for that."""
    status, _, said = outcome
    return status == SKIPPED or said.startswith("legate-trace: no Envoy")


def matches(command, outcome):
    status, seen, _ = outcome
    same = normalised(command.expected, command.rules) == normalised(seen, command.rules)
    return status == 0 and same


def judge(command, outcome, faults, skipped):
    """Compares; true when the block has to be rewritten."""
    status, seen, said = outcome
    if lacks_something(outcome):
        skipped.append(f"{command.place()}: {said or command.text}")
        return False
    if status != 0:
        faults.append("\n".join([f"{command.place()}: `{command.text}` ended with {status}", *seen, said]))
        return False
    if matches(command, outcome):
        return False
    want, got = normalised(command.expected, command.rules), normalised(seen, command.rules)
    diff = difflib.unified_diff(want, got, "written", "seen", lineterm="")
    faults.append(f"{command.place()}: `{command.text}` prints something else\n" + "\n".join(diff))
    return True


def rewrite(path, stale, outcomes):
    """Puts what was seen in the place of what is written."""
    lines = read(path)
    for command in sorted(stale, key=lambda command: -command.line):
        first = command.line + 1
        lines[first : first + len(command.expected)] = [line.rstrip() for line in outcomes[command.text][1]]
    with open(os.path.join(ROOT, path), "w") as file:
        file.write("\n".join(lines) + "\n")


def read(path):
    with open(os.path.join(ROOT, path)) as file:
        return file.read().splitlines()


def contains(haystack, needle):
    """Whether the lines of `needle` follow each other in `haystack`, indentation aside."""
    return any(haystack[i : i + len(needle)] == needle for i in range(len(haystack) - len(needle) + 1))


def check_quotes(path, lines, faults):
    for comment, _, first, body in blocks(lines):
        kind, _, source = comment.partition(": ")
        if kind != "source":
            continue
        if not os.path.exists(os.path.join(ROOT, source)):
            faults.append(f"{path}:{first}: there is no {source}")
            continue
        text = [line.strip() for line in read(source)]
        piece = []
        for line in [*(line.strip() for line in body), "// ..."]:
            if line != "// ...":
                piece.append(line)
            else:
                if not contains(text, piece):
                    faults.append(f"{path}:{first + 1}: not in {source}:\n" + "\n".join(piece))
                piece = []


def prose(lines):
    """The numbered lines outside of fenced blocks."""
    fenced = False
    for number, line in enumerate(lines, 1):
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, line


def check_items(path, lines, faults):
    envoy = os.environ.get("ENVOY_SOURCE")
    numbers, kept = zip(*prose(lines))
    text = "\n".join(kept)
    # A reference may go on in the next line.
    for found in re.finditer(r"`([\w./]+\.(?:rs|cc|h))`\s›\s((?:`[\w:!()~]+`(?:,\s)?)+)", text):
        file, items = found.groups()
        own = file.endswith(".rs")
        if not own and not envoy:
            continue
        place = f"{path}:{numbers[text.count(chr(10), 0, found.start())]}"
        source = os.path.join(*((ROOT, "src") if own else (envoy,)), file)
        if not os.path.exists(source):
            faults.append(f"{place}: there is no {file}")
            continue
        with open(source) as opened:
            code = opened.read()
        for item in re.findall(r"`([^`]+)`", items):
            name = re.escape(item.rpartition("::")[2].strip("()!"))
            if not re.search(DEFINITION.format(name) if own else rf"(?<!\w){name}\b", code):
                faults.append(f"{place}: {file} has no {item}")


def anchors(lines):
    """The names under which a code host links to a page's headings."""
    found = set()
    for _, line in prose(lines):
        heading = re.match(r"#+ (.*)", line)
        if heading:
            text = re.sub(r"[^\w\- ]", "", heading.group(1).strip().lower())
            found.add(text.replace(" ", "-"))
    return found


def check_links(path, lines, faults):
    for number, line in prose(lines):
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", line)):
            if re.match(r"\w+:", target):
                continue
            file, _, anchor = target.partition("#")
            file = os.path.normpath(os.path.join(os.path.dirname(path), file)) if file else ""
            if file and not os.path.exists(os.path.join(ROOT, file)):
                faults.append(f"{path}:{number}: the link to {target} leads nowhere")
            elif anchor and anchor not in anchors(read(file) if file else lines):
                faults.append(f"{path}:{number}: there is no heading #{anchor}")


def pages():
    found = glob.glob("docs/**/*.md", root_dir=ROOT, recursive=True)
    return ["README.md", *sorted(found)]


def main():
    parser = argparse.ArgumentParser(description="Holds the documentation against the program.")
    parser.add_argument("--update", action="store_true", help="write what was seen into the blocks")
    parser.add_argument("--only", default="", help="run only commands that contain this text")
    parser.add_argument("files", nargs="*")
    options = parser.parse_args()

    faults, skipped, commands = [], [], []
    files = [os.path.relpath(os.path.abspath(file), ROOT) for file in options.files] or pages()
    for path in files:
        lines = read(path)
        check_quotes(path, lines, faults)
        check_items(path, lines, faults)
        check_links(path, lines, faults)
        commands += [c for c in commands_of(path, lines, faults) if options.only in c.text]

    outcomes = {}
    for command in commands:
        if command.text not in outcomes:
            outcomes[command.text] = run(command.text)
            # What waits for a proxy to come to rest may mistake a busy machine for it: a second run decides.
            outcome = outcomes[command.text]
            if not matches(command, outcome) and not lacks_something(outcome):
                outcomes[command.text] = run(command.text)
    stale = [c for c in commands if judge(c, outcomes[c.text], faults, skipped)]
    if options.update:
        for path in {command.path for command in stale}:
            rewrite(path, [c for c in stale if c.path == path], outcomes)

    for line in skipped:
        print(f"SKIPPED {line}")
    for fault in faults:
        print(f"FAULT {fault}\n")
    print(f"{len(files)} pages, {len(commands)} commands, {len(skipped)} skipped, {len(faults)} faults")
    if options.update and stale:
        print(f"{len(stale)} blocks rewritten")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
