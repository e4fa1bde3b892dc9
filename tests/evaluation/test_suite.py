"""Suites: which rows are usable, and which requests are the same as before."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.config.tiers import Tier
from llm_tiered.errors import RequestError
from llm_tiered.evaluation.suite import Suite, for_tier, read

if TYPE_CHECKING:
    from pathlib import Path

SMALL = Tier.model_validate({"name": "small", "complexity": "1-10", "model": "mlx/one"})


def parse(tmp_path: Path, *rows: Any, judge: str | None = None) -> Suite:
    """The suite of those rows; text is written as a line of its own."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path = tmp_path / "suite.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return read(path, judge)


def keys(suite: Suite) -> list[str]:
    """The keys of the rows."""
    return [case.row.key for case in suite.cases]


def test_case(tmp_path: Path) -> None:
    """A case is a prompt with what is sent with it, a task, and what is expected."""
    row = {
        "prompt": "Reply",
        "system": "Be brief",
        "schema": "age int",
        "task": "sums",
        "options": {"temperature": 0},
        "id": "a",
        "numeric": 4,
        "source": "an unknown field",
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
    """A byte order mark, empty lines and the line ends of Windows are accepted."""
    row = json.dumps({"prompt": "a", "exact": "b"})
    path = tmp_path / "suite.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + f"{row}\r\n\r\n{row}\r\n".encode())
    suite = read(path, None)
    assert ([case.row.line for case in suite.cases], suite.bad) == ([1, 3], [])


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
        ({"prompt": "a", "judge": "polite?"}, "judge: needs a judge_model"),
    ],
)
def test_bad_rows(tmp_path: Path, row: Any, error: str) -> None:
    """A row that can't be asked or scored is reported with its line; the others are used."""
    suite = parse(tmp_path, {"prompt": "a", "exact": "b"}, row)
    assert len(suite.cases) == 1
    [bad] = suite.bad
    assert bad.line == 2
    assert bad.error.startswith(error)


@pytest.mark.parametrize(
    ("rows", "error"),
    [([], "has no usable row$"), (["oops"], "has no usable row; line 1: not JSON")],
)
def test_no_rows(tmp_path: Path, rows: list[str], error: str) -> None:
    """A file without a usable row is an error, with the first mistake."""
    with pytest.raises(RequestError, match=error):
        parse(tmp_path, *rows)


def test_judges(tmp_path: Path) -> None:
    """A row's own judge overrides the judge for all rows."""
    rows = [{"prompt": "a", "judge": "x"}, {"prompt": "a", "judge": "x", "judge_model": "mine"}]
    cases = parse(tmp_path, *rows, judge="all").cases
    assert [case.expected.judge_model for case in cases] == ["all", "mine"]


def test_keys(tmp_path: Path) -> None:
    """A row keeps its key when it moves or its criteria change, but not when its request does."""
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
    """Equal rows have keys of their own."""
    row = {"prompt": "a", "exact": "x"}
    assert len({*keys(parse(tmp_path, row, row, row))}) == 3


@pytest.mark.parametrize("change", [{"model": "mlx/other"}, {"options": {"max_tokens": 9}}])
def test_keys_depend_on_the_tier(tmp_path: Path, change: dict[str, Any]) -> None:
    """The key for a tier changes with its model and its options."""
    [case] = parse(tmp_path, {"prompt": "a", "exact": "x"}).cases
    assert for_tier(case, SMALL).key == for_tier(case, SMALL).key
    assert for_tier(case, SMALL).key != for_tier(case, SMALL.model_copy(update=change)).key


def test_options_for_a_tier(tmp_path: Path) -> None:
    """The tier answers alone, whatever the options of the row are."""
    row = {"prompt": "a", "exact": "x", "options": {"fallback": "any", "temperature": 1}}
    [case] = parse(tmp_path, row).cases
    options = for_tier(case, SMALL).options
    assert (options["tier"], options["fallback"], options["temperature"]) == ("small", "none", 1)
