"""Tests of docs_check.py: `python3 tests/docs_check_test.py`."""

import os
import tempfile
import unittest

import docs_check

PAGE = """
text

<!-- check: times, ports -->

```console
$ one
took 3 ms
$ two
```

```console
no command
```
""".splitlines()


class Blocks(unittest.TestCase):
    def test_commands_carry_their_output_and_the_rules_before_the_block(self):
        faults = []
        commands = docs_check.commands_of("x.md", PAGE, faults)
        seen = [(command.text, command.expected, command.line) for command in commands]
        self.assertEqual(seen, [("one", ["took 3 ms"], 6), ("two", [], 8)])
        self.assertEqual(commands[1].rules, ["times", "ports"])
        self.assertEqual(faults, ["x.md:13: a console block begins with `$ command`"])

    def test_an_unknown_rule_is_a_fault(self):
        faults = []
        self.assertEqual(docs_check.rules_of("check: times, all", "x.md:1", faults), ["times"])
        self.assertEqual(faults, ["x.md:1: there is no normalisation 'all'"])

    def test_a_comment_counts_for_the_block_that_follows_at_once(self):
        lines = ["<!-- check: times -->", "text", "```console", "$ one", "```"]
        self.assertEqual(docs_check.commands_of("x.md", lines, [])[0].rules, [])


class Comparing(unittest.TestCase):
    def judge(self, expected, rules, outcome):
        command = docs_check.Command("x.md", 1, "one", rules)
        command.expected = expected
        faults, skipped = [], []
        return docs_check.judge(command, outcome, faults, skipped), len(faults), len(skipped)

    def test_only_what_a_rule_names_may_differ(self):
        seen = (0, ["[C7] took 14 ms at 127.0.0.1:80"], "")
        written = ["[C1] took 3 ms at 127.0.0.1:9999"]
        self.assertEqual(self.judge(written, ["times", "ids", "ports"], seen), (False, 0, 0))
        self.assertEqual(self.judge(written, ["times", "ids"], seen), (True, 1, 0))
        self.assertEqual(self.judge(["took 3 s"], ["times"], (0, ["took 3 ms"], "")), (True, 1, 0))

    def test_a_reason_may_have_another_number(self):
        written, seen = [" (3) A::b", "(3) A::b [1.40]: why (3)"], ["(40) A::b", "(40) A::b [1.40]: why (3)"]
        self.assertEqual(self.judge(written, ["reasons"], (0, seen, "")), (False, 0, 0))
        self.assertEqual(self.judge(written, ["reasons"], (0, [seen[0], "(4) A::b"], "")), (True, 1, 0))

    def test_chance_hides_orders_and_numbers_but_no_words(self):
        written = ["worker   0 1", "worker_0: 2, upstreams in turn: A B"]
        seen = ["worker   1 1 0", "worker_1: 3, upstreams in turn: C A B"]
        self.assertEqual(self.judge(written, ["chance"], (0, seen, "")), (False, 0, 0))
        self.assertEqual(self.judge(["x: 9"], ["chance"], (0, ["x: 10"], "")), (False, 0, 0))
        seen[1] = "worker_1: 3, upstreams NOT in turn: C A B"
        self.assertEqual(self.judge(written, ["chance"], (0, seen, "")), (True, 1, 0))

    def test_failing_is_a_fault_and_lacking_something_is_not(self):
        self.assertEqual(self.judge([], [], (1, [], "")), (False, 1, 0))
        self.assertEqual(self.judge(["x"], [], (docs_check.SKIPPED, [], "no Envoy")), (False, 0, 1))
        self.assertEqual(self.judge(["x"], [], (2, [], "legate-trace: no Envoy: x")), (False, 0, 1))

    def test_a_command_runs_and_its_pipe_fails_with_it(self):
        self.assertEqual(docs_check.run("echo a; echo b"), (0, ["a", "b"], ""))
        self.assertEqual(docs_check.run("exit 3 | cat")[0], 3)

    def test_a_command_is_found_where_the_reader_finds_it(self):
        self.assertEqual(docs_check.run('echo "$PATH"')[1], [os.environ["PATH"]])
        self.assertEqual(docs_check.run("legate-trace scenarios")[0], 127)
        page = "\n".join("\n".join(docs_check.read(path)) for path in docs_check.pages())
        self.assertNotRegex(page, r"(?m)^(\$ |    )legate(-trace)? ")


class Updating(unittest.TestCase):
    def test_what_was_seen_takes_the_place_of_what_is_written(self):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "x.md")
            with open(path, "w") as file:
                file.write("```console\n$ one\nold\nold\n$ two\n$ three\nkept\n```\nend\n")
            commands = docs_check.commands_of(path, docs_check.read(path), [])
            outcomes = {"one": (0, ["new"], ""), "two": (0, ["new", "too "], "")}
            docs_check.rewrite(path, commands[:2], outcomes)
            with open(path) as file:
                seen = file.read()
        self.assertEqual(seen, "```console\n$ one\nnew\n$ two\nnew\ntoo\n$ three\nkept\n```\nend\n")


class References(unittest.TestCase):
    def faults(self, check, *lines):
        faults = []
        check("docs/x.md", list(lines), faults)
        return len(faults)

    def test_links_and_headings(self):
        good = ["## A `b`: c", "[x](map.md) [y](#a-b-c) [z](http://x/) `[code](nothing.md)`"]
        self.assertEqual(self.faults(docs_check.check_links, *good), 0)
        bad = "[x](nothing.md) [y](#a) [z](map.md#nothing)"
        self.assertEqual(self.faults(docs_check.check_links, bad), 3)

    def test_items(self):
        for line, faults in [
            ("`event/cell.rs` › `Event::assign`, `Event::add`", 0),
            ("`event/cell.rs` › `Event::add`, `Event::fly`", 1),
            ("`event/cell.rs` ›\n`Event::add`,\n`Event::fly`", 1),
            ("`event/nothing.rs` › `Event`", 1),
        ]:
            self.assertEqual(self.faults(docs_check.check_items, *line.split("\n")), faults)

    def test_quotes(self):
        def quote(*lines):
            comment = "<!-- source: src/event/timer.rs -->"
            return self.faults(docs_check.check_quotes, comment, "```rust", *lines, "```")

        first, last = "pub struct Timer {", "pub fn disable_timer(&self) {"
        self.assertEqual(quote(first, "event: Event,", "// ...", last), 0)
        self.assertEqual(quote(first, last), 1)


if __name__ == "__main__":
    unittest.main()
