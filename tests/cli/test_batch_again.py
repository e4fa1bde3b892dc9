"""`llm tiered batch`, continued: which answers are kept, and which rows are asked again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import llm
import pytest

from tests.cli.batching import batch, new_prompts, responses, small, write_rows, wrong_usage

if TYPE_CHECKING:
    from pathlib import Path

    from tests.batch.echo import Echoes


def test_again(echoes: Echoes, tmp_path: Path, output: Path) -> None:
    """A complete batch asks nothing and leaves its output unchanged."""
    arguments = (write_rows(tmp_path, *small("a", "b")), "-o", str(output))
    batch(*arguments)
    before = output.read_bytes()
    new_prompts(echoes)
    result = batch(*arguments)
    assert new_prompts(echoes) == []
    assert output.read_bytes() == before
    assert "2 rows: 0 answered, 0 failed, 2 skipped as done" in result.stderr


def test_again_with_the_same_twice(echoes: Echoes, tmp_path: Path, output: Path) -> None:
    """Identical rows with the same id keep one answer each."""
    answers = iter("abc")

    async def act(model: str, prompt: str) -> str:
        return next(answers)

    echoes.act = act
    row = {"id": 1, "prompt": "say a letter", "complexity": 2}
    arguments = (write_rows(tmp_path, row, row, row), "-o", str(output))
    batch(*arguments)
    before = output.read_text()
    assert sorted(responses(before)) == ["a", "b", "c"]
    batch(*arguments)
    assert output.read_text() == before


def test_failed_rows_again(echoes: Echoes, tmp_path: Path, output: Path) -> None:
    """A failed row is asked again, and its answer replaces the error."""

    async def act(model: str, prompt: str) -> str:
        if prompt == "b":
            raise llm.ModelError("out of order")
        return prompt

    # Rows for the cloud, one at a time, are asked in their order.
    rows = [row | {"complexity": 9} for row in small("a", "b", "c", "d")]
    arguments = (write_rows(tmp_path, *rows[:3], "oops"), "-o", str(output), "--concurrency", "1")
    echoes.act, before = act, echoes.act
    batch(*arguments, code=1)
    assert new_prompts(echoes) == ["a", "b", "c"]
    echoes.act = before
    batch(*arguments, code=1)
    assert new_prompts(echoes) == ["b"]
    assert responses(output.read_text())[:3] == ["a", "b", "c"]
    write_rows(tmp_path, *rows)
    batch(*arguments)
    assert new_prompts(echoes) == ["d"]
    assert responses(output.read_text()) == ["a", "b", "c", "d"]


def test_failed_rows_again_unordered(echoes: Echoes, tmp_path: Path, output: Path) -> None:
    """With --unordered, each row still ends up with one line."""
    rows = small(*"abcdef")
    arguments = (write_rows(tmp_path, rows[0], "oops", *rows[1:]), "-o", str(output), "--unordered")
    batch(*arguments, code=1)
    write_rows(tmp_path, rows[0], {"prompt": "new", "complexity": 2}, *rows[1:])
    new_prompts(echoes)
    batch(*arguments)
    assert new_prompts(echoes) == ["new"]
    assert sorted(responses(output.read_text())) == [*"abcdef", "new"]


def test_lost_output(echoes: Echoes, tmp_path: Path, output: Path) -> None:
    """A deleted output is written again from the journal, without asking."""
    arguments = (write_rows(tmp_path, *small("a", "b")), "-o", str(output))
    batch(*arguments)
    new_prompts(echoes)
    output.unlink()
    batch(*arguments)
    assert (new_prompts(echoes), responses(output.read_text())) == ([], ["a", "b"])


def test_edited_rows(echoes: Echoes, tmp_path: Path, output: Path) -> None:
    """An edited row is asked again, with or without an id."""
    rows = [*small("a", "b"), {"id": "x", "prompt": "c", "complexity": 2}]
    arguments = (write_rows(tmp_path, *rows), "-o", str(output))
    batch(*arguments)
    new_prompts(echoes)
    write_rows(tmp_path, rows[0], rows[1] | {"prompt": "B"}, rows[2] | {"prompt": "C"})
    batch(*arguments)
    assert new_prompts(echoes) == ["B", "C"]
    assert responses(output.read_text()) == ["a", "B", "C"]


@pytest.mark.parametrize("change", ["prompts", "settings"])
def test_other_input(echoes: Echoes, tmp_path: Path, output: Path, change: str) -> None:
    """An output with answers to other prompts, or with other settings, is not touched."""
    name = write_rows(tmp_path, *small("a", "b"))
    batch(name, "-o", str(output))
    before = output.read_bytes()
    settings = ("-s", "Be brief") if change == "settings" else ()
    if change == "prompts":
        write_rows(tmp_path, *small("c", "d"))
    error = wrong_usage(name, "-o", str(output), *settings)
    assert "holds answers to other prompts" in error
    assert "--restart" in error
    assert output.read_bytes() == before
    new_prompts(echoes)
    batch(name, "-o", str(output), *settings, "--restart")
    assert len(new_prompts(echoes)) == 2


def test_restart(echoes: Echoes, tmp_path: Path, output: Path) -> None:
    """With --restart, everything is asked again."""
    arguments = (write_rows(tmp_path, *small("a")), "-o", str(output))
    for _ in range(2):
        batch(*arguments, "--restart")
        assert new_prompts(echoes) == ["a"]
        assert responses(output.read_text()) == ["a"]
