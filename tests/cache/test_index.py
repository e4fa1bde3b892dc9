"""The index beside the log stays complete, whatever happens to either of them."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.cache import lookup
from llm_tiered.cache.index import Index, Position
from llm_tiered.cache.lookup import find
from llm_tiered.errors import TieredError
from tests.cache.replies import change, key_of, reply, warned
from tests.make_log import END, add, empty_log, turn

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def index_path(logs: Path) -> Path:
    """Return where the index is."""
    return logs.parent / "tiered" / "cache.db"


def key(number: int) -> str:
    """Return a key."""
    return f"{number:064x}"


def keyed(number: int, **fields: Any) -> dict[str, Any]:
    """Return a turn with this key."""
    row = turn(**fields)
    response_json = json.loads(row["response_json"])
    response_json["tiered"]["key"] = key(number)
    return row | {"response_json": json.dumps(response_json)}


def count_answers(path: Path) -> int:
    """Return the number of answers in the index."""
    with closing(sqlite3.connect(path)) as database:
        (number,) = database.execute("select count(*) from answers").fetchone()
    return int(number)


def test_permissions(log: Path, index_path: Path) -> None:
    """Only the owner can read the index."""
    find(key_of(reply(log, "answer")))
    assert stat.S_IMODE(index_path.stat().st_mode) == 0o600


def test_keys_and_turns(index_path: Path) -> None:
    """A key leads to its turns, newest first; a turn that was added twice is there once."""
    with Index(index_path) as index:
        assert index.position() is None
        entries = [(key(1), "a"), (key(2), "b"), (key(1), "c")]
        for _ in range(2):
            with index.writing():
                index.add(entries, Position(3, "c"))
        assert (index.turns(key(1)), index.turns(key(2)), index.turns(key(3))) == (
            ["c", "a"],
            ["b"],
            [],
        )
        index.forget(key(1), "c")
    with Index(index_path) as index:
        assert index.position() == (3, "c")
        assert index.turns(key(1)) == ["a"]
        index.clear()
        assert index.position() is None
        assert index.turns(key(2)) == []


def test_transactions(index_path: Path) -> None:
    """A transaction that fails leaves nothing behind."""
    with suppress(ZeroDivisionError), Index(index_path) as index, index.writing():
        index.add([(key(1), "a")], Position(1, "a"))
        raise ZeroDivisionError
    with Index(index_path) as index:
        assert index.position() is None
        assert index.turns(key(1)) == []


def test_new_turns(log: Path, index_path: Path) -> None:
    """Each look-up knows all turns that were logged before it."""
    for number in range(3):
        assert find(key_of(reply(log, "answer", prompt=f"Say {number}")))
        assert count_answers(index_path) == number + 1


def test_ids_out_of_order(log: Path) -> None:
    """A turn is found even if its id is older than that of an indexed turn."""
    assert find(key_of(reply(log, "answer")))
    response = reply(log, "answer", prompt="Bye")
    early = turn(END - timedelta(days=400))["id"]
    change(log, "update turns set id = ? where id = ?", early, response.id)
    answer = find(key_of(response))
    assert answer
    assert answer.turn_id == early


def test_in_many_steps(log: Path, index_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long log is read in steps, the last of which may be empty."""
    monkeypatch.setattr(lookup, "CHUNK", 4)
    for turns in (8, 3, 1):
        add(log, [keyed(number) for number in range(turns)])
        find(key(0))
        with Index(index_path) as index:
            position = index.position()
        with closing(sqlite3.connect(log)) as database:
            assert position == database.execute("select max(rowid), id from turns").fetchone()


def test_unusable_turns(log: Path, index_path: Path) -> None:
    """Turns of other models and answers that can't be repeated are not indexed."""
    rows = [
        keyed(1),
        keyed(2) | {"model": "other"},
        keyed(3, cached_from="x"),
        keyed(4, response={"finish_reason": "length"}),
        turn(),
        turn() | {"response_json": "{"},
        turn() | {"response_json": None},
        turn() | {"response_json": "[" * 100_000},
        turn() | {"response_json": "null"},
        keyed(5) | {"id": None},
        keyed(6) | {"id": b"x"},
    ]
    add(log, rows)
    assert find(key(9)) is None
    assert count_answers(index_path) == 1


def test_a_vacuumed_log(log: Path) -> None:
    """After a vacuum, which moves rows, old and new answers are found."""
    responses = [reply(log, "answer", prompt=f"Say {number}") for number in range(6)]
    assert find(key_of(responses[0]))
    change(log, "delete from turns where id in (?, ?)", responses[0].id, responses[2].id)
    with closing(sqlite3.connect(log)) as database:
        database.execute("vacuum")
    responses += [reply(log, "answer", prompt=f"Say {number}") for number in range(6, 10)]
    are_found = [find(key_of(response)) is not None for response in responses]
    assert are_found == [False, True, False, *[True] * 7]


def test_reused_rowid(log: Path) -> None:
    """A turn that has the rowid of a deleted one is found."""
    first, last = (reply(log, "answer", prompt=f"Say {number}") for number in range(2))
    assert find(key_of(last))
    change(log, "delete from turns where id = ?", last.id)
    other = reply(log, "answer", prompt="Say it")
    assert find(key_of(last)) is None
    assert find(key_of(other))
    assert find(key_of(first))


def test_another_log(log: Path, index_path: Path, tmp_path: Path) -> None:
    """A log that replaced another is read from the start, and old entries are removed."""
    older = [reply(log, "answer", prompt=f"Say {number}") for number in range(3)]
    shutil.copy(log, tmp_path / "older.db")
    newer = [reply(log, "answer", prompt=f"Say {number}") for number in range(3, 6)]
    assert find(key_of(newer[-1]))
    shutil.copy(tmp_path / "older.db", log)
    assert find(key_of(older[0]))
    assert [find(key_of(response)) for response in newer] == [None] * 3
    assert count_answers(index_path) == 3
    empty_log(log)
    assert find(key_of(older[0])) is None
    assert count_answers(index_path) == 0


def fill(index_path: Path) -> None:
    """Write an index of many pages."""
    with Index(index_path) as index, index.writing():
        entries = [(random.Random(number).randbytes(32).hex(), "x" * 26) for number in range(2000)]
        index.add(entries, Position(1, "no such turn"))


def write_garbage(path: Path) -> None:
    """Replace the file by text."""
    path.write_bytes(b"text, not a database" * 50)


def cut(path: Path) -> None:
    """Cut off the second half."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def overwrite_pages(path: Path) -> None:
    """Overwrite all pages but the first."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xee" * (path.stat().st_size - 4096))


@pytest.mark.parametrize("damage", [write_garbage, cut, overwrite_pages])
def test_a_damaged_index(
    log: Path, index_path: Path, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A damaged index is one warning at most, and is rebuilt for the next request."""
    request = key_of(reply(log, "answer"))
    fill(index_path)
    damage(index_path)
    if find(request) is None:
        (warning,) = warned(caplog)
        assert str(index_path) in warning
    assert find(request)
    assert len(warned(caplog)) <= 1
    assert count_answers(index_path) == 1


def test_an_empty_file(log: Path, index_path: Path) -> None:
    """An empty file becomes an index."""
    index_path.parent.mkdir()
    index_path.touch()
    assert find(key_of(reply(log, "answer")))


def test_an_index_of_another_version(log: Path, index_path: Path) -> None:
    """An index of another version of the schema is rebuilt."""
    index_path.parent.mkdir()
    with closing(sqlite3.connect(index_path)) as database:
        database.executescript("create table answers (x); pragma user_version = 99")
    assert find(key_of(reply(log, "answer")))


@pytest.mark.parametrize("where", ["file", "folder"])
def test_an_index_that_can_not_be_created(
    log: Path, index_path: Path, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """If the index can't be created, there is one warning and no answer."""
    if where == "file":
        index_path.parent.write_text("")
    else:
        index_path.mkdir(parents=True)
    assert find(key_of(reply(log, "answer"))) is None
    (warning,) = warned(caplog)
    assert warning.startswith(f"answering without the cache: {index_path} can't be used")


def test_an_index_that_can_not_be_written(
    log: Path, index_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A read-only index still finds the answers that it has."""
    response = reply(log, "answer")
    assert find(key_of(response))
    connect = sqlite3.connect

    def read_only(path: Any, **options: Any) -> sqlite3.Connection:
        database: sqlite3.Connection = connect(path, **options)
        database.execute("pragma query_only = on")
        return database

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", read_only)
        assert find(key_of(response))
    assert warned(caplog) == []
    later = reply(log, "answer", prompt="Bye")
    monkeypatch.setattr(sqlite3, "connect", read_only)
    assert find(key_of(later)) is None
    assert len(warned(caplog)) == 1


def test_a_locked_index(
    log: Path, index_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An index that another process keeps locked is one warning, after a wait."""
    request = key_of(reply(log, "answer"))
    monkeypatch.setattr("llm_tiered.cache.index.PATIENCE", 0.05)
    fill(index_path)
    with closing(sqlite3.connect(index_path, isolation_level=None)) as other:
        other.execute("begin exclusive")
        assert find(request) is None
    assert len(warned(caplog)) == 1
    assert find(request)


def test_a_locked_index_stays(index_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A locked file is not deleted as damaged."""
    monkeypatch.setattr("llm_tiered.cache.index.PATIENCE", 0.05)
    fill(index_path)
    with closing(sqlite3.connect(index_path, isolation_level=None)) as other:
        other.execute("begin exclusive")
        with pytest.raises(TieredError, match="locked"), Index(index_path) as index:
            index.position()
    assert count_answers(index_path) == 2000


PROCESSES = """
import os, sys
from llm_tiered.cache import lookup
lookup.CHUNK = 500
wait, start = os.pipe()
children = []
for _ in range(8):
    child = os.fork()
    if not child:
        os.close(start)
        os.read(wait, 1)
        os._exit(0 if lookup.find(sys.argv[1]) else 1)
    children.append(child)
os.close(start)
print([os.waitpid(child, 0)[1] for child in children])
"""


def test_many_processes(log: Path, index_path: Path) -> None:
    """Eight processes that build the index together all find the answer, and it is complete."""
    add(log, [keyed(number) for number in range(3000)])
    request = key_of(reply(log, "answer"))
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROCESSES, request],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (process.stdout, process.stderr) == (f"{[0] * 8}\n", "")
    assert count_answers(index_path) == 3001
