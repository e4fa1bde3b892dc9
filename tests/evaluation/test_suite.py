"""Suites: which rows can be asked, and which question is the same as before."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.config.sections import Tier
from llm_tiered.errors import RequestError
from llm_tiered.evaluation.suite import Suite, for_tier, read

if TYPE_CHECKING:
    from pathlib import Path

SMALL = Tier.model_validate({"name": "small", "complexity": "1-10", "model": "mlx/one"})


def parse(tmp_path: Path, *rows: Any, judge: str | None = None) -> Suite:
    """The suite of those rows; a text is a line as it stands."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path = tmp_path / "suite.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return read(path, judge)


def keys(suite: Suite) -> list[str]:
    """The keys of the rows."""
    return [case.row.key for case in suite.cases]


def test_a_row(tmp_path: Path) -> None:
    """A row has a prompt and what goes with it, its task and what is expected."""
    row = {
        "prompt": "Reply",
        "system": "Be brief",
        "schema": "age int",
        "task": "sums",
        "options": {"temperature": 0},
        "id": "a",
        "numeric": 4,
        "source": "a field that nobody knows",
    }
    [case] = parse(tmp_path, row).cases
    assert (case.row.prompt, case.row.system, case.row.id) == ("Reply", "Be brief", "a")
    assert case.row.options == {"temperature": 0}
    assert case.task == "sums"
    assert case.expected.numeric == 4
    assert case.expected.schema == case.row.schema
    assert case.row.schema
    assert list(case.row.schema["properties"]) == ["age"]


def test_byte_order_mark(tmp_path: Path) -> None:
    """A byte order mark, empty lines and Windows' line ends do not matter."""
    row = json.dumps({"prompt": "a", "exact": "b"})
    path = tmp_path / "suite.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + f"{row}\r\n\r\n{row}\r\n".encode())
    found = read(path, None)
    assert ([case.row.line for case in found.cases], found.bad) == ([1, 3], [])


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ("oops", "not JSON"),
        ([], "found []"),
        ({"exact": "a"}, "no prompt"),
        ({"prompt": "a"}, "nothing to score it by"),
        ({"prompt": "a", "regex": "("}, "regex: "),
        ({"prompt": "a", "exact": "a", "tier": "small"}, "tier: each row goes to all tiers"),
        ({"prompt": "a", "exact": "a", "complexity": 3}, "complexity: each row goes to all"),
        ({"prompt": "a", "exact": "a", "task": 3}, "wrong options: task"),
        ({"prompt": "a", "exact": "a", "options": {"colour": 1}}, "wrong options: colour"),
        ({"prompt": "a", "exact": "a", "local_only": True}, "local_only: is an option"),
        ({"prompt": "a", "schema": {"type": "integr"}}, "schema: "),
        ({"prompt": "a", "judge": "polite?"}, "judge: expected a judge_model beside it"),
    ],
)
def test_bad_rows(tmp_path: Path, row: Any, error: str) -> None:
    """A row that can't be asked or scored is told with its line, and the others stay."""
    found = parse(tmp_path, {"prompt": "a", "exact": "b"}, row)
    assert len(found.cases) == 1
    [bad] = found.bad
    assert bad.line == 2
    assert bad.error.startswith(error)


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ([], "has no row that can be asked"),
        (["oops"], "has no row that can be asked; line 1: not JSON"),
    ],
)
def test_no_rows(tmp_path: Path, rows: list[str], error: str) -> None:
    """A file without a single row to ask is a mistake."""
    with pytest.raises(RequestError, match=error):
        parse(tmp_path, *rows)


def test_judges(tmp_path: Path) -> None:
    """A row's own judge wins over the one for all."""
    rows = [{"prompt": "a", "judge": "x"}, {"prompt": "a", "judge": "x", "judge_model": "mine"}]
    cases = parse(tmp_path, *rows, judge="all").cases
    assert [case.expected.judge_model for case in cases] == ["all", "mine"]


def test_keys_are_of_what_is_asked(tmp_path: Path) -> None:
    """A row keeps its key when it moves or is scored in another way, not when it asks otherwise."""
    before = keys(parse(tmp_path, {"prompt": "a", "exact": "x"}, {"prompt": "b", "exact": "y"}))
    moved = [
        {"prompt": "new", "exact": "z"},
        {"prompt": "b", "contains": "y", "task": "sums", "id": 1},
        {"prompt": "a", "regex": "x"},
    ]
    assert keys(parse(tmp_path, *moved))[1:] == before[::-1]
    other = [{"prompt": "a", "exact": "x", "system": "s"}, {"prompt": "B", "exact": "y"}]
    assert not {*keys(parse(tmp_path, *other))} & {*before}


def test_keys_of_equal_rows(tmp_path: Path) -> None:
    """Rows that ask the same are several rows."""
    row = {"prompt": "a", "exact": "x"}
    assert len({*keys(parse(tmp_path, row, row, row))}) == 3


@pytest.mark.parametrize("change", [{"model": "mlx/other"}, {"options": {"max_tokens": 9}}])
def test_keys_are_of_the_tier(tmp_path: Path, change: dict[str, Any]) -> None:
    """A tier with another model or other options is asked again."""
    [case] = parse(tmp_path, {"prompt": "a", "exact": "x"}).cases
    assert for_tier(case, SMALL).key == for_tier(case, SMALL).key
    assert for_tier(case, SMALL).key != for_tier(case, SMALL.model_copy(update=change)).key


def test_a_tier_is_asked_by_itself(tmp_path: Path) -> None:
    """Whatever a row's options say, the tier answers and nobody else."""
    row = {"prompt": "a", "exact": "x", "options": {"fallback": "any", "temperature": 1}}
    [case] = parse(tmp_path, row).cases
    asked = for_tier(case, SMALL).options
    assert (asked["tier"], asked["fallback"], asked["temperature"]) == ("small", "none", 1)
