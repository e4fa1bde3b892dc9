"""The journal: what it keeps, what it makes of damage, whom it refuses. And the output."""

from __future__ import annotations

import json
import resource
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.batch.journal import LOOK_AHEAD, Journal
from llm_tiered.batch.output import encode, open_output
from llm_tiered.batch.rows import BadRow, Row
from llm_tiered.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Bytes, where the disk is small.
LIMIT = 10_000


def make_row(name: str, line: int = 1) -> Row:
    """A row with that key."""
    return Row(line, None, name, None, None, {}, key=name)


def make_answer(name: str, line: int = 1) -> dict[str, Any]:
    """An answer to such a row."""
    return {"id": None, "line": line, "response": f"answer to {name}"}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Where the answers belong; nothing is there."""
    return tmp_path / "answers.jsonl"


@pytest.fixture
def kept(output: Path) -> Path:
    """The journal of an earlier run, with answers to a and b."""
    with closing(Journal(output, restart=False)) as journal:
        for name in "ab":
            journal.add(make_row(name), make_answer(name))
    return journal.path


def refused(output: Path) -> str:
    """Why there can be no journal."""
    with pytest.raises(RequestError) as error:
        Journal(output, restart=False)
    return str(error.value)


def test_answers_are_found(output: Path, kept: Path) -> None:
    """A later run finds the answers, with the lines on which the rows are now."""
    with closing(Journal(output, restart=False)) as journal:
        assert journal.find(make_row("b")) == make_answer("b")
        assert journal.find(make_row("a", line=5)) == make_answer("a", line=5)
        assert journal.find(make_row("c")) is None


def test_found_while_adding(output: Path, kept: Path) -> None:
    """Reading and adding go on side by side, and all is there the next time."""
    with closing(Journal(output, restart=False)) as journal:
        journal.add(make_row("c"), make_answer("c"))
        assert journal.find(make_row("a")) == make_answer("a")
        journal.add(make_row("d"), make_answer("d"))
    with closing(Journal(output, restart=False)) as journal:
        found = [journal.find(make_row(name)) for name in "abcd"]
    assert found == [make_answer(name) for name in "abcd"]


def test_left(output: Path, kept: Path) -> None:
    """What earlier runs had and this one has not found is left, new answers are not."""
    with closing(Journal(output, restart=False)) as journal:
        journal.find(make_row("a"))
        journal.add(make_row("c"), make_answer("c"))
        assert list(journal.left()) == [make_answer("b")]


def test_files(output: Path, kept: Path) -> None:
    """Only the journal stays behind, named after the output."""
    assert [path.name for path in output.parent.glob("answers*")] == ["answers.jsonl.journal"]


@pytest.mark.parametrize("cut", [1, 10])
def test_half_a_line(output: Path, kept: Path, cut: int) -> None:
    """The line at which a run was killed is cut off, and its row is to be asked again."""
    kept.write_bytes(kept.read_bytes()[:-cut])
    with closing(Journal(output, restart=False)) as journal:
        assert journal.find(make_row("b")) is None
        journal.add(make_row("b"), make_answer("b"))
    assert [json.loads(line) for line in kept.read_text().splitlines()][1:] == [
        {"key": name, "answer": make_answer(name)} for name in "ab"
    ]


@pytest.mark.parametrize("keep", [0, 5])
def test_half_a_header(output: Path, kept: Path, keep: int) -> None:
    """A journal that was killed as it began is begun again."""
    kept.write_bytes(kept.read_bytes()[:keep])
    with closing(Journal(output, restart=False)) as journal:
        journal.add(make_row("c"), make_answer("c"))
    with closing(Journal(output, restart=False)) as journal:
        assert journal.find(make_row("c")) == make_answer("c")


@pytest.mark.parametrize("damage", [b"\0\0\0\n", b"[]\n", b'{"key": "a"}\n'])
def test_damaged_line(output: Path, kept: Path, damage: bytes) -> None:
    """A line that can't be read costs no other one."""
    header, _, rest = kept.read_bytes().split(b"\n", 2)
    kept.write_bytes(header + b"\n" + damage + rest)
    with closing(Journal(output, restart=False)) as journal:
        assert journal.find(make_row("a")) is None
        assert journal.find(make_row("b")) == make_answer("b")


@pytest.mark.parametrize("restart", [False, True])
def test_other_file_in_its_place(output: Path, *, restart: bool) -> None:
    """A file of somebody else's under the journal's name is left alone."""
    path = output.with_name("answers.jsonl.journal")
    path.write_text("Dear diary\n")
    with pytest.raises(RequestError, match="is in the way"):
        Journal(output, restart=restart)
    assert path.read_text() == "Dear diary\n"


def test_output_without_journal(output: Path) -> None:
    """An output that has no journal is not overwritten, unless it is empty."""
    output.touch()
    Journal(output, restart=False).close()
    output.with_name("answers.jsonl.journal").unlink()
    output.write_text("My thesis\n")
    assert "is there already" in refused(output)


def test_one_run_at_a_time(output: Path) -> None:
    """While a run goes on, a second one can't begin; then it can."""
    with closing(Journal(output, restart=False)):
        assert refused(output) == f"another run is writing to {output}"
    Journal(output, restart=False).close()


def test_refusal_leaves_no_lock(output: Path, kept: Path) -> None:
    """After a refusal, the next try is judged by itself."""
    content = kept.read_bytes()
    kept.write_text("Dear diary\n")
    refused(output)
    kept.write_bytes(content)
    Journal(output, restart=False).close()


def test_restart(output: Path, kept: Path) -> None:
    """Begun anew, it knows nothing."""
    output.write_text("My thesis\n")
    with closing(Journal(output, restart=True)) as journal:
        assert journal.find(make_row("a")) is None


def test_same_input(output: Path, kept: Path) -> None:
    """Rows of which one was answered are given on, all of them."""
    rows: list[Row | BadRow] = [BadRow(1, None, "no prompt"), make_row("x"), make_row("b")]
    more = [*rows, make_row("y")]
    with closing(Journal(output, restart=False)) as journal:
        assert list(journal.check(iter(more))) == more


@pytest.mark.parametrize("number", [0, 1, LOOK_AHEAD + 1])
def test_other_input(output: Path, kept: Path, number: int) -> None:
    """Rows of which none was answered are refused; of very many, the first thousand decide."""
    rows = (make_row(f"x{place}") for place in range(number))
    with (
        closing(Journal(output, restart=False)) as journal,
        pytest.raises(RequestError, match=r"other prompts.*--restart"),
    ):
        journal.check(rows)
    assert len(list(rows)) == max(0, number - LOOK_AHEAD)


def test_any_input(output: Path) -> None:
    """A journal without answers is for any input."""
    with closing(Journal(output, restart=False)) as journal:
        assert list(journal.check(iter([make_row("a")]))) == [make_row("a")]


# The output


def lines(path: Path) -> list[str]:
    """The responses in the output."""
    return [json.loads(line)["response"] for line in path.read_text("utf-8").splitlines()]


def test_output_goes_on(output: Path) -> None:
    """What is in the output is kept while it is the same, and nothing of it is written again."""
    output.write_bytes(encode({"response": "a"}) + encode({"response": "b"}))
    with open_output(output, restart=False) as opened:
        opened.write({"response": "a"})
        assert lines(output) == ["a", "b"]
        opened.write({"response": "b"})
        opened.write({"response": "c"})
        assert lines(output) == ["a", "b", "c"]


def test_output_that_differs(output: Path) -> None:
    """From the first line that is another one, the output is written anew."""
    output.write_bytes(b"".join(encode({"response": text}) for text in "axyz"))
    with open_output(output, restart=False) as opened:
        opened.write({"response": "a"})
        opened.write({"response": "b"})
        assert lines(output) == ["a", "b"]


def test_output_with_half_a_line(output: Path) -> None:
    """Half a line at the end is written anew."""
    output.write_bytes(encode({"response": "a"}) + encode({"response": "b"})[:-3])
    with open_output(output, restart=False) as opened:
        for text in "ab":
            opened.write({"response": text})
    assert lines(output) == ["a", "b"]


def test_output_cut(output: Path) -> None:
    """What is beyond the last answer can be cut off."""
    output.write_bytes(b"".join(encode({"response": text}) for text in "abc"))
    with open_output(output, restart=False) as opened:
        opened.write({"response": "a"})
        opened.cut()
    assert lines(output) == ["a"]


def test_output_restarted(output: Path) -> None:
    """Begun anew, it is empty."""
    output.write_bytes(encode({"response": "a"}))
    with open_output(output, restart=True):
        assert lines(output) == []


def test_output_is_utf_8() -> None:
    """Answers are readable text, even with half a surrogate pair in them."""
    assert encode({"response": "é\ud800\n"}) == '{"response": "é\\ud800\\n"}\n'.encode()


@pytest.fixture
def _small_disk() -> Iterator[None]:
    """Let no file grow beyond LIMIT."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def overfill(output: Path) -> None:
    """Write more into the output than the disk takes, and tell it."""
    with open_output(output, restart=True) as answers:
        with pytest.raises(OSError, match="large"):
            answers.write(make_answer("a" * LIMIT))
        raise RequestError("told")


@pytest.mark.usefixtures("_small_disk")
def test_disk_full(output: Path) -> None:
    """What a full disk did not take is an error once, and not again when the files are closed."""
    with closing(Journal(output, restart=False)) as journal, pytest.raises(OSError, match="large"):
        journal.add(make_row("a"), make_answer("a" * LIMIT))
    with pytest.raises(RequestError, match="told"):
        overfill(output)
