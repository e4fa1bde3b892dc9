"""The output: resumed, replaced, cut off, in the order of the rows, on a full disk."""

from __future__ import annotations

import json
import resource
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from llm_tiered.batch.journal import Journal
from llm_tiered.batch.output import RowOrder, encode, open_output
from llm_tiered.errors import RequestError
from tests.batch.test_journal import make_answer, make_row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Bytes that a file may have on the small disk.
LIMIT = 10_000


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The path of the output; the file does not exist."""
    return tmp_path / "answers.jsonl"


def responses(path: Path) -> list[str]:
    """The responses in the output."""
    return [json.loads(line)["response"] for line in path.read_text("utf-8").splitlines()]


def test_resumed(output: Path) -> None:
    """Lines of an earlier run are kept while they are the same."""
    output.write_bytes(encode({"response": "a"}) + encode({"response": "b"}))
    with open_output(output, restart=False) as opened:
        opened.write({"response": "a"})
        assert responses(output) == ["a", "b"]
        opened.write({"response": "b"})
        opened.write({"response": "c"})
        assert responses(output) == ["a", "b", "c"]


def test_different_line(output: Path) -> None:
    """The output is replaced from the first line that differs."""
    output.write_bytes(b"".join(encode({"response": text}) for text in "axyz"))
    with open_output(output, restart=False) as opened:
        opened.write({"response": "a"})
        opened.write({"response": "b"})
        assert responses(output) == ["a", "b"]


def test_half_a_line(output: Path) -> None:
    """Half a line at the end is replaced."""
    output.write_bytes(encode({"response": "a"}) + encode({"response": "b"})[:-3])
    with open_output(output, restart=False) as opened:
        for text in "ab":
            opened.write({"response": text})
    assert responses(output) == ["a", "b"]


def test_cut(output: Path) -> None:
    """Lines after the last answer can be cut off."""
    output.write_bytes(b"".join(encode({"response": text}) for text in "abc"))
    with open_output(output, restart=False) as opened:
        opened.write({"response": "a"})
        opened.cut()
    assert responses(output) == ["a"]


def test_restarted(output: Path) -> None:
    """With `restart` the output is empty."""
    output.write_bytes(encode({"response": "a"}))
    with open_output(output, restart=True):
        assert responses(output) == []


def test_utf_8() -> None:
    """Answers are readable text; a lone surrogate stays an escape."""
    assert encode({"response": "é\ud800\n"}) == '{"response": "é\\ud800\\n"}\n'.encode()


@pytest.fixture
def _small_disk() -> Iterator[None]:
    """Let no file grow beyond LIMIT."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def overfill(output: Path) -> None:
    """Write more into the output than the disk holds, and raise an error of our own."""
    with open_output(output, restart=True) as answers:
        with pytest.raises(OSError, match="large"):
            answers.write(make_answer("a" * LIMIT))
        raise RequestError("reported")


@pytest.mark.usefixtures("_small_disk")
def test_full_disk(output: Path) -> None:
    """A full disk raises one error, and none when the files are closed."""
    with closing(Journal(output, restart=False)) as journal, pytest.raises(OSError, match="large"):
        journal.add(make_row("a"), make_answer("a" * LIMIT))
    with pytest.raises(RequestError, match="reported"):
        overfill(output)


def test_row_order() -> None:
    """Answers leave in the order of the rows, each when all earlier ones have arrived."""
    order = RowOrder()
    answers = [make_answer(str(place)) for place in range(5)]
    assert list(order.add(2, answers[2])) == []
    assert list(order.add(0, answers[0])) == [answers[0]]
    assert list(order.add(1, answers[1])) == [answers[1], answers[2]]
    assert list(order.add(4, answers[4])) == []
    assert order.waiting() == [answers[4]]
