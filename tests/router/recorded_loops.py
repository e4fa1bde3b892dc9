"""Recorded tool loops: twenty in which a model is stuck, and twenty in which it gets on.

Each is a list of answers, each answer a list of calls: the tool, its arguments and its result.
"""

from __future__ import annotations

from typing import Any, TypeAlias

Call: TypeAlias = tuple[str, dict[str, Any], str]
Loop: TypeAlias = list[list[Call]]

MISSING = "Error: No such file or directory: 'confg.py'"
_TRACE = (
    "Traceback (most recent call last):\n  File \"run.py\", line 3, in <module>\nKeyError: 'id'"
)


def _one_by_one(*calls: Call) -> Loop:
    return [[call] for call in calls]


def _grep(pattern: str, result: str) -> Call:
    return "grep", {"pattern": pattern, "path": "src"}, result


def _sql(query: str, result: str) -> Call:
    return "query", {"sql": query}, result


def _shell(command: str, result: str) -> Call:
    return "shell", {"command": command}, result


STUCK: dict[str, Loop] = {
    "reads the same file again": [
        [("read_file", {"path": "a.py"}, "x = 1\n")],
    ]
    * 2,
    "asks for the weather again": _one_by_one(
        ("geocode", {"place": "Paris"}, "48.9, 2.4"),
        ("weather", {"lat": 48.9, "lon": 2.4}, "14 degrees, rain"),
        ("weather", {"lon": 2.4, "lat": 48.9}, "14 degrees, rain"),
    ),
    "a file that is not there": [[("read_file", {"path": "confg.py"}, MISSING)]] * 2,
    "guesses names of files": _one_by_one(
        *(
            ("read_file", {"path": path}, f"Error: No such file or directory: '{path}'")
            for path in ("config.py", "conf.py", "src/config.py")
        )
    ),
    "goes round between two calls": _one_by_one(
        *[
            ("list_dir", {"path": "."}, "src\ntests"),
            ("list_dir", {"path": "src"}, "a.py"),
        ]
        * 3
    ),
    "guesses columns": _one_by_one(
        _sql("select name from users", "OperationalError: no such column: name"),
        _sql("select * from users limit 1", "id|mail\n1|a@example.com"),
        _sql("select username from users", "OperationalError: no such column: username"),
        _sql("select user from users", "OperationalError: no such column: user"),
    ),
    "an edit that never matches": _one_by_one(
        *(
            ("edit", {"old": old, "new": "x = 2"}, "Error: the text to replace was not found")
            for old in ("x=1", "x = 1 ", "x  = 1")
        )
    ),
    "a program that always fails": _one_by_one(
        *[_shell("python run.py", _TRACE)] * 2,
    ),
    "a command that is not installed": _one_by_one(
        _shell("rg TODO", "bash: rg: command not found"),
        _shell("ag TODO", "bash: ag: command not found"),
        _shell("ack TODO", "bash: ack: command not found"),
    ),
    "wrong arguments": _one_by_one(
        ("book", {"date": "tomorrow"}, "Error: date must be YYYY-MM-DD"),
        ("book", {"date": "next day"}, "Error: date must be YYYY-MM-DD"),
        ("book", {"date": "3 May"}, "Error: date must be YYYY-MM-DD"),
    ),
    "a tool that does not exist": [
        [("search_web", {"q": "llama"}, "Error: tool 'search_web' does not exist")],
    ]
    * 2,
    "JSON errors": _one_by_one(
        ("get_order", {"id": "A1"}, '{"error": "invalid id", "status": 400}'),
        ("get_order", {"id": "#A1"}, '{"error": "invalid id", "status": 400}'),
        ("list_orders", {}, '{"orders": [17, 18]}'),
        ("get_order", {"id": "order A1"}, '{"error": "invalid id", "status": 400}'),
    ),
    "searches for the same words": _one_by_one(
        _grep("parse_date", "No matches"),
        _grep("parse_date", "No matches"),
    ),
    "tests after edits that change nothing": _one_by_one(
        *(
            call
            for at in range(3)
            for call in (
                ("edit", {"file": "a.py", "line": at}, "edited"),
                _shell("pytest -q", "FAILED test_a.py::test_sum - assert 3 == 4"),
            )
        )
    ),
    "a call among two, three times": [
        [("user", {"id": 7}, "Ann"), ("orders", {"user": at}, "[]")] for at in range(2)
    ]
    + [[("user", {"id": 7}, "Ann"), ("orders", {"user": 1}, "[]")]],
    "permissions": _one_by_one(
        _shell("rm /etc/hosts", "rm: cannot remove '/etc/hosts': Permission denied"),
        _shell("sudo rm /etc/hosts", "sudo: command not found"),
        _shell("ls /etc/hosts", "/etc/hosts"),
        _shell("mv /etc/hosts /tmp", "mv: cannot move '/etc/hosts': Permission denied"),
    ),
    "a page that can't be fetched": _one_by_one(
        ("fetch", {"url": "https://example.com/a"}, "HTTPError: 404 Not Found"),
        ("fetch", {"url": "https://example.com/a/"}, "HTTPError: 404 Not Found"),
        ("fetch", {"url": "https://example.com/A"}, "HTTPError: 404 Not Found"),
    ),
    "writes the same file again": [
        [("write_file", {"path": "a.py", "text": "x = 2"}, "wrote 5 bytes")],
    ]
    * 2,
    "the same sum again": [[("calculate", {"expression": "17*23"}, "391")]] * 2,
    "fails after a good start": _one_by_one(
        ("list_dir", {"path": "."}, "data.csv"),
        ("load", {"path": "data.csv"}, "412 rows"),
        ("plot", {"x": "date"}, "KeyError: 'date'"),
        ("plot", {"x": "Date"}, "KeyError: 'Date'"),
        ("columns", {}, "day, sum"),
        ("plot", {"x": "datum"}, "KeyError: 'datum'"),
    ),
}

GOOD: dict[str, Loop] = {
    "one call": _one_by_one(("weather", {"place": "Rome"}, "21 degrees")),
    "several files": _one_by_one(
        *(("read_file", {"path": f"{name}.py"}, f"def {name}(): ...") for name in "abcdef")
    ),
    "reads a file again after an edit": _one_by_one(
        ("read_file", {"path": "a.py"}, "x = 1"),
        ("edit", {"path": "a.py", "old": "1", "new": "2"}, "edited"),
        ("read_file", {"path": "a.py"}, "x = 2"),
    ),
    "tests, an edit, tests": _one_by_one(
        _shell("pytest -q", "FAILED test_a.py::test_sum - assert 3 == 4"),
        ("read_file", {"path": "a.py"}, "def sum(a, b): return a - b"),
        ("edit", {"path": "a.py", "old": "-", "new": "+"}, "edited"),
        _shell("pytest -q", "1 passed"),
    ),
    "fewer tests fail each time": _one_by_one(
        *(
            call
            for at in (3, 2, 1)
            for call in (
                _shell("pytest -q", f"{at} failed, {7 - at} passed"),
                ("edit", {"line": at}, "edited"),
            )
        )
    ),
    "waits for a job": _one_by_one(
        ("start", {"job": "train"}, "job 12"),
        *[("status", {"job": 12}, '{"state": "running"}')] * 4,
        ("status", {"job": 12}, '{"state": "done"}'),
    ),
    "waits with pauses": _one_by_one(
        *[("status", {"id": 3}, "queued"), ("sleep", {"seconds": 5}, "still waiting")] * 3
    ),
    "pages of results": _one_by_one(
        *(("search", {"q": "llama", "page": at}, f"results {at}0 to {at}9") for at in range(5))
    ),
    "the next page": _one_by_one(*(("next_page", {}, f"page {at} of 5") for at in range(1, 6))),
    "two failures, then it works": _one_by_one(
        _sql("select name from users", "OperationalError: no such column: name"),
        ("schema", {}, "users(id, mail)"),
        _sql("select mails from users", "OperationalError: no such column: mails"),
        _sql("select mail from users", "a@example.com"),
    ),
    "failures far apart": _one_by_one(
        ("read_file", {"path": "a"}, "Error: no such file"),
        *(("read_file", {"path": f"b{at}"}, "text") for at in range(5)),
        ("read_file", {"path": "c"}, "Error: no such file"),
        *(("read_file", {"path": f"d{at}"}, "text") for at in range(5)),
        ("read_file", {"path": "e"}, "Error: no such file"),
    ),
    "in parallel": [
        [("weather", {"place": place}, "sunny") for place in ("Rome", "Oslo", "Bern")],
        [("weather", {"place": place}, "sunny") for place in ("Lima", "Cairo")],
    ],
    "the same call twice at once": [
        [("roll", {"sides": 6}, "4"), ("roll", {"sides": 6}, "4")],
    ],
    "files that talk about errors": _one_by_one(
        ("read_file", {"path": "errors.py"}, "class Error(Exception): ..."),
        _grep("Error", "src/errors.py: class Error(Exception): ..."),
        ("read_file", {"path": "log.txt"}, "10:02 request failed\n10:03 error: timeout"),
        ("read_file", {"path": "handler.py"}, "except Exception as error: raise"),
    ),
    "JSON without errors": _one_by_one(
        *(("get", {"id": at}, f'{{"error": null, "name": "n{at}"}}') for at in range(4))
    ),
    "a clock": _one_by_one(
        *(("time", {}, f"2026-03-01 10:0{at}") for at in range(3)),
    ),
    "the same tool for each city": _one_by_one(
        *(("population", {"city": city}, "2 million") for city in ("Rome", "Paris", "Vienna"))
    ),
    "searches that find nothing, in other words": _one_by_one(
        _grep("parse_date", "No matches"),
        _grep("parseDate", "No matches"),
        _grep("strptime", "src/dates.py: datetime.strptime(text)"),
    ),
    "a directory again after a new file": _one_by_one(
        ("list_dir", {"path": "."}, "a.py"),
        ("write_file", {"path": "b.py", "text": ""}, "wrote 0 bytes"),
        ("list_dir", {"path": "."}, "a.py\nb.py"),
        ("read_file", {"path": "a.py"}, ""),
    ),
    "presses a key several times": [[("press", {"key": "down"}, "ok")]] * 3,
}
