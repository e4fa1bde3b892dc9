"""Fields → rows: prompts, options, defaults, mistakes and keys."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_tiered.batch import rows
from llm_tiered.batch.rows import BadRow, Defaults, Row
from tests.batch.reading import mistake, read, read_one
from tests.stand_in import Options


def test_fields() -> None:
    """A row has a prompt, what is sent with it, its id and its line."""
    row = read_one(
        {
            "id": "a",
            "prompt": "Hello",
            "system": "Be brief",
            "complexity": 3,
            "schema": {"type": "object"},
            "options": {"temperature": 0.5},
        }
    )
    assert (row.line, row.id, row.prompt, row.system) == (1, "a", "Hello", "Be brief")
    assert row.schema == {"type": "object"}
    assert row.options == {"temperature": 0.5, "complexity": 3}


def test_other_fields() -> None:
    """Unknown fields and null are ignored."""
    row = read_one({"prompt": "Hello", "answer": 42, "system": None, "complexity": None})
    assert (row.system, row.options) == (None, {})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{prompt}", "not JSON: Expecting property name enclosed in double quotes at column 2"),
        ("[" * 100_000, "not readable JSON: nested too deeply"),
        ("[1, 2]", "found [1, 2], expected an object with a prompt"),
        ("{}", "no prompt"),
        ('{"prompt": ""}', "no prompt"),
        ('{"prompt": " \\n"}', "no prompt"),
        ('{"prompt": 5}', "prompt: found 5, expected text"),
        ('{"prompt": "a", "system": ["b"]}', 'system: found ["b"], expected text'),
        ('{"prompt": "a", "id": [1]}', "id: found [1], expected text or a number"),
        ('{"prompt": "a", "id": NaN}', "id: found NaN, expected text or a number"),
        ('{"prompt": "a", "id": 1e999}', "id: found Infinity, expected text or a number"),
        ('{"prompt": "a", "options": 1}', "options: found 1, expected an object"),
        ('{"prompt": "a", "schema": 1}', "schema: found 1, expected an object"),
        ('{"prompt": "a", "schema": "{1"}', "schema: not JSON: "),
        ('{"prompt": "a", "complexity": 11}', "wrong options: complexity: Must be a whole number"),
        ('{"prompt": "a", "complexity": "x"}', "wrong options: complexity: Must be a whole number"),
        ('{"prompt": "a", "options": {"colour": 1}}', "wrong options: colour: neither tiered "),
        (b'{"prompt": "caf\xe9"}', "not UTF-8: byte 0xe9 at position 16"),
    ],
)
def test_mistakes(line: bytes | str, expected: str) -> None:
    """A mistake is reported with its field, the value found and what is expected."""
    assert mistake(line).startswith(expected)


def test_rows_after_a_mistake() -> None:
    """Rows after a bad one are read; a bad row has its line, and its id if there is one."""
    rows_read = read('oops\n{"id": 7, "prompt": ""}\n{"id": 8, "prompt": "a"}\n')
    assert [(row.line, row.id, type(row)) for row in rows_read] == [
        (1, None, BadRow),
        (2, 7, BadRow),
        (3, 8, Row),
    ]


@pytest.mark.parametrize(
    ("column", "error"),
    [
        ("local_onyl", "local_onyl: is not an option, did you mean local_only?"),
        ("Private", "Private: is an option and belongs in 'options'"),
        ("complexty", "complexty: is not an option, did you mean complexity?"),
        ("title", None),
        ("author", None),
    ],
)
def test_column_that_looks_like_an_option(column: str, error: str | None) -> None:
    """A column of the user's own may have any name but one that is nearly that of an option."""
    [row] = read(json.dumps({"prompt": "a", column: True}))
    assert (row.error if isinstance(row, BadRow) else None) == error


def test_option_beside_the_prompt() -> None:
    """An option in the wrong place is a mistake: `local_only` must never be ignored."""
    expected = "local_only: is an option and belongs in 'options'"
    assert mistake('{"prompt": "a", "local_only": true}') == expected


# Defaults


def test_defaults() -> None:
    """What the row itself says overrides the defaults."""
    defaults: dict[str, Any] = {
        "system": "Be brief",
        "schema": {"type": "object"},
        "options": {"temperature": "1", "seed": "2"},
    }
    plain = read_one({"prompt": "a"}, **defaults)
    assert (plain.system, plain.schema) == ("Be brief", {"type": "object"})
    assert plain.options == {"temperature": "1", "seed": "2"}
    own = read_one(
        {"prompt": "a", "system": "No", "schema": "x", "options": {"seed": 3}}, **defaults
    )
    assert own.system == "No"
    assert own.schema != {"type": "object"}
    assert own.options == {"temperature": "1", "seed": 3}


@pytest.mark.parametrize("own", [{"task": "theory_analysis"}, {"options": {"complexity": 2}}])
def test_default_tier(own: dict[str, Any]) -> None:
    """A default tier does not apply to rows with a task or a complexity of their own."""
    row = read_one({"prompt": "a"} | own, options={"tier": "cloud", "seed": "1"})
    assert "tier" not in row.options
    assert row.options["seed"] == "1"


def test_tier_options_of_other_models() -> None:
    """Models other than `tiered` ignore complexity, task and tier."""
    data = b'{"prompt": "a", "complexity": 3, "task": "x", "tier": "y"}'
    [row] = rows.read([data], "jsonl", Defaults("other/echo", Options))
    assert isinstance(row, Row)
    assert row.options == {}


# Keys


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"prompt": "a"}\n{"prompt": "b"}', '{"prompt": "c"}\n{"prompt": "b"}'),
        (
            '{"prompt": "a"}\n{"id": 1, "prompt": "b"}',
            '{"prompt": "c"}\n\n{"id": 1, "prompt": "b"}',
        ),
        ('{"prompt": "a"}\n{"prompt": "b"}', '{"prompt": "c"}\n{"prompt": "b", "note": 1}'),
    ],
)
def test_key_stays(before: str, after: str) -> None:
    """A row keeps its key while its request is the same; a row with an id may move."""
    keys = [[getattr(row, "key", None) for row in read(data)] for data in (before, after)]
    assert keys[0][0] != keys[1][0]
    assert keys[0][1] == keys[1][1]


@pytest.mark.parametrize(
    "other",
    [
        {"id": "b", "prompt": "a"},
        {"id": "a", "prompt": "b"},
        {"id": "a", "prompt": "a", "system": "b"},
        {"id": "a", "prompt": "a", "complexity": 3},
        {"id": "a", "prompt": "a", "schema": "b"},
    ],
)
def test_key_changes(other: dict[str, Any]) -> None:
    """A row with another request has another key."""
    assert read_one({"id": "a", "prompt": "a"}).key != read_one(other).key


def test_key_depends_on_defaults() -> None:
    """Defaults are part of the request."""
    row = {"id": "a", "prompt": "a"}
    assert read_one(row).key != read_one(row, options={"temperature": "1"}).key
    assert read_one(row).key != read_one(row, system="Be brief").key


def test_keys_of_repeated_rows() -> None:
    """Equal rows with the same id have keys of their own, the same ones in each run."""
    row = json.dumps({"id": 1, "prompt": "a"}) + "\n"
    keys = [[row.key for row in read(row * 3) if isinstance(row, Row)] for _ in range(2)]
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == 3
    assert keys[0][0] == read_one({"id": 1, "prompt": "a"}).key


def test_key_with_a_lone_surrogate() -> None:
    """Text that JSON can hold and UTF-8 can't has a key as well."""
    [row] = read('{"prompt": "\\ud800"}')
    assert isinstance(row, Row)
