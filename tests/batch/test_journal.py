"""The journal: what it keeps, how it handles damage, when it refuses to open."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.batch.journal import LOOK_AHEAD, Journal
from llm_tiered.batch.rows import BadRow, Row
from llm_tiered.errors import RequestError
from tests.cli.commands import run

if TYPE_CHECKING:
    from tests.batch.echo import Echoes

DATA = Path(__file__).parent / "data"


def make_row(name: str, line: int = 1) -> Row:
    """A row with that key."""
    return Row(line, None, name, None, None, {}, key=name)


def make_answer(name: str, line: int = 1) -> dict[str, Any]:
    """An answer to the row of that name."""
    return {"id": None, "line": line, "response": f"answer to {name}"}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The path of the output; the file does not exist."""
    return tmp_path / "answers.jsonl"


@pytest.fixture
def earlier(output: Path) -> Path:
    """The journal of an earlier run, with answers to a and b."""
    with closing(Journal(output, restart=False)) as journal:
        for name in "ab":
            journal.add(make_row(name), make_answer(name))
    return journal.path


def refusal(output: Path) -> str:
    """The error of opening a journal."""
    with pytest.raises(RequestError) as error:
        Journal(output, restart=False)
    return str(error.value)


def test_find(output: Path, earlier: Path) -> None:
    """A later run finds the answers, with the current lines of their rows."""
    with closing(Journal(output, restart=False)) as journal:
        assert journal.find(make_row("b")) == make_answer("b")
        assert journal.find(make_row("a", line=5)) == make_answer("a", line=5)
        assert journal.find(make_row("c")) is None


def test_find_between_additions(output: Path, earlier: Path) -> None:
    """Answers can be added and found in turn, and all of them are there the next time."""
    with closing(Journal(output, restart=False)) as journal:
        journal.add(make_row("c"), make_answer("c"))
        assert journal.find(make_row("a")) == make_answer("a")
        journal.add(make_row("d"), make_answer("d"))
    with closing(Journal(output, restart=False)) as journal:
        answers = [journal.find(make_row(name)) for name in "abcd"]
    assert answers == [make_answer(name) for name in "abcd"]


def test_unclaimed(output: Path, earlier: Path) -> None:
    """Earlier answers that this run has not looked up are unclaimed; new answers are not."""
    with closing(Journal(output, restart=False)) as journal:
        journal.find(make_row("a"))
        journal.add(make_row("c"), make_answer("c"))
        assert list(journal.unclaimed()) == [make_answer("b")]


def test_files(output: Path, earlier: Path) -> None:
    """A closed journal leaves one file, named after the output."""
    assert [path.name for path in output.parent.glob("answers*")] == ["answers.jsonl.journal"]


@pytest.mark.parametrize("cut", [1, 10])
def test_half_a_line(output: Path, earlier: Path, cut: int) -> None:
    """Half a line at the end is cut off, and its row is asked again."""
    earlier.write_bytes(earlier.read_bytes()[:-cut])
    with closing(Journal(output, restart=False)) as journal:
        assert journal.find(make_row("b")) is None
        journal.add(make_row("b"), make_answer("b"))
    assert [json.loads(line) for line in earlier.read_text().splitlines()][1:] == [
        {"key": name, "answer": make_answer(name)} for name in "ab"
    ]


@pytest.mark.parametrize("size", [0, 5])
def test_half_a_header(output: Path, earlier: Path, size: int) -> None:
    """A journal with half a header starts again."""
    earlier.write_bytes(earlier.read_bytes()[:size])
    with closing(Journal(output, restart=False)) as journal:
        journal.add(make_row("c"), make_answer("c"))
    with closing(Journal(output, restart=False)) as journal:
        assert journal.find(make_row("c")) == make_answer("c")


@pytest.mark.parametrize("damage", [b"\0\0\0\n", b"[]\n", b'{"key": "a"}\n'])
def test_damaged_line(output: Path, earlier: Path, damage: bytes) -> None:
    """An unreadable line loses only its own answer."""
    header, _, rest = earlier.read_bytes().split(b"\n", 2)
    earlier.write_bytes(header + b"\n" + damage + rest)
    with closing(Journal(output, restart=False)) as journal:
        assert journal.find(make_row("a")) is None
        assert journal.find(make_row("b")) == make_answer("b")


@pytest.mark.parametrize("restart", [False, True])
def test_foreign_file(output: Path, *, restart: bool) -> None:
    """A foreign file with the journal's name is never changed."""
    path = output.with_name("answers.jsonl.journal")
    path.write_text("Dear diary\n")
    with pytest.raises(RequestError, match="is in the way"):
        Journal(output, restart=restart)
    assert path.read_text() == "Dear diary\n"


def test_output_without_journal(output: Path) -> None:
    """An output without a journal is not overwritten, unless it is empty."""
    output.touch()
    Journal(output, restart=False).close()
    output.with_name("answers.jsonl.journal").unlink()
    output.write_text("My thesis\n")
    assert "already exists" in refusal(output)


def test_one_run_at_a_time(output: Path) -> None:
    """A second run can't open the journal until the first one closes it."""
    with closing(Journal(output, restart=False)):
        assert refusal(output) == f"another run is writing to {output}"
    Journal(output, restart=False).close()


def test_link(output: Path, earlier: Path, tmp_path: Path) -> None:
    """A link to the output has the same journal, which two runs can't write at the same time."""
    link = tmp_path / "elsewhere" / "link.jsonl"
    link.parent.mkdir()
    link.symlink_to(output)
    with closing(Journal(output, restart=False)):
        assert "another run is writing" in refusal(link)
    with closing(Journal(link, restart=False)) as journal:
        assert journal.path == earlier
        assert journal.find(make_row("a"))
    assert [*link.parent.iterdir()] == [link]


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no file that is open")
def test_run_that_begins_when_another_ends(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two runs that begin when another one ends, one has the output."""
    first, others = Journal(output, restart=False), []
    release = first._lock.release

    def begin(*_: Any, **__: Any) -> None:
        release()
        others.append(Journal(output, restart=False))

    monkeypatch.setattr(first._lock, "release", begin)
    first.close()
    monkeypatch.undo()
    assert "another run is writing" in refusal(output)
    others[0].close()


def test_refusal_leaves_no_lock(output: Path, earlier: Path) -> None:
    """A refusal does not lock out the next run."""
    content = earlier.read_bytes()
    earlier.write_text("Dear diary\n")
    refusal(output)
    earlier.write_bytes(content)
    Journal(output, restart=False).close()


def test_restart(output: Path, earlier: Path) -> None:
    """With `restart` the journal is empty."""
    output.write_text("My thesis\n")
    with closing(Journal(output, restart=True)) as journal:
        assert journal.find(make_row("a")) is None


def test_same_input(output: Path, earlier: Path) -> None:
    """Rows of which one was answered earlier pass the check, all of them."""
    rows: list[Row | BadRow] = [BadRow(1, None, "no prompt"), make_row("x"), make_row("b")]
    more = [*rows, make_row("y")]
    with closing(Journal(output, restart=False)) as journal:
        assert list(journal.check(iter(more))) == more


@pytest.mark.parametrize("number", [0, 1, LOOK_AHEAD + 1])
def test_other_input(output: Path, earlier: Path, number: int) -> None:
    """Rows of which none was answered are refused; the first thousand rows decide."""
    rows = (make_row(f"x{place}") for place in range(number))
    with (
        closing(Journal(output, restart=False)) as journal,
        pytest.raises(RequestError, match=r"other prompts.*--restart"),
    ):
        journal.check(rows)
    assert len(list(rows)) == max(0, number - LOOK_AHEAD)


def test_any_input(output: Path) -> None:
    """A journal without answers accepts any input."""
    with closing(Journal(output, restart=False)) as journal:
        assert list(journal.check(iter([make_row("a")]))) == [make_row("a")]


# A journal of an earlier version, in tests/batch/data


@pytest.fixture
def earlier_version(tmp_path: Path) -> Path:
    """A folder with rows, answers and journal as an earlier version wrote them."""
    return shutil.copytree(DATA, tmp_path / "earlier")


def run_again(folder: Path) -> str:
    """Run the batch of an earlier version again; returns the totals."""
    result = run("batch", str(folder / "rows.jsonl"), "-o", str(folder / "answers.jsonl"))
    return result.stderr.splitlines()[-1]


@pytest.mark.parametrize("lost", ["nothing", "the output"])
def test_journal_of_an_earlier_version(echoes: Echoes, earlier_version: Path, lost: str) -> None:
    """A journal of an earlier version is complete: no row is asked again."""
    if lost == "the output":
        (earlier_version / "answers.jsonl").unlink()
    totals = run_again(earlier_version)
    assert totals.startswith("4 rows: 0 answered, 0 failed, 4 skipped as done")
    assert echoes.requests == []
    assert (earlier_version / "answers.jsonl").read_bytes() == (DATA / "answers.jsonl").read_bytes()


def test_journal_of_an_earlier_version_goes_on(echoes: Echoes, earlier_version: Path) -> None:
    """A run of an earlier version that was killed is resumed with the missing row only."""
    journal = earlier_version / "answers.jsonl.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    [missing] = [line for line in lines if b"Gr\xc3\xbc" in line]
    journal.write_bytes(b"".join(line for line in lines if line != missing))
    totals = run_again(earlier_version)
    assert totals.startswith("4 rows: 1 answered, 0 failed, 3 skipped as done")
    assert [prompt for _, prompt in echoes.requests] == ["Schöne Grüße"]
