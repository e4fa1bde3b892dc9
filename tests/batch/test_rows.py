"""What stands in a file → rows: formats, mistakes with their lines, defaults, keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llm_tiered.batch import rows
from llm_tiered.batch.rows import BadRow, Defaults, Format, Row
from llm_tiered.errors import RequestError
from llm_tiered.router.options import TieredOptions
from tests.batch.echo import Options as EchoOptions

TIERED = Defaults("tiered", TieredOptions)


def read(data: bytes | str, form: Format = "jsonl", **defaults: Any) -> list[Row | BadRow]:
    """All rows of a file with that content."""
    raw = data.encode() if isinstance(data, str) else data
    found = Defaults("tiered", TieredOptions, **defaults)
    return list(rows.read(raw.splitlines(keepends=True), form, found))


def read_one(*fields: Any, **defaults: Any) -> Row:
    """The one row, which is right, of a JSONL file."""
    [row] = read(json.dumps(dict(*fields)), **defaults)
    assert isinstance(row, Row), row
    return row


def mistake(data: bytes | str, form: Format = "jsonl") -> str:
    """What is wrong with the one row of a file."""
    [row] = read(data, form)
    assert isinstance(row, BadRow)
    return row.error


# JSONL


def test_jsonl() -> None:
    """A row has its prompt, what goes with it, its id and its line."""
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


def test_lines() -> None:
    """Empty lines are no rows, and count; line ends are those of any system."""
    found = read('\n{"prompt": "a"}\r\n  \n{"prompt": "b"}')
    assert [(row.line, row.id) for row in found] == [(2, None), (4, None)]


@pytest.mark.parametrize("form", rows.FORMATS)
def test_byte_order_mark(form: Format) -> None:
    """A byte order mark at the start is passed over."""
    text = {"jsonl": '{"prompt": "é"}', "csv": "prompt\né", "text": "é"}[form]
    [row] = read(b"\xef\xbb\xbf" + text.encode(), form)
    assert isinstance(row, Row)
    assert row.prompt == "é"


def test_other_fields() -> None:
    """Fields that mean nothing here, and those that are null, are passed over."""
    row = read_one({"prompt": "Hello", "answer": 42, "system": None, "complexity": None})
    assert (row.system, row.options) == (None, {})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{prompt}", "not JSON: Expecting property name enclosed in double quotes at column 2"),
        ("[" * 100_000, "not JSON that can be read: nested too deeply"),
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
        ('{"prompt": "a", "complexity": 11}', "wrong options: complexity: Input should be less "),
        ('{"prompt": "a", "complexity": "x"}', "wrong options: complexity: Input should be a val"),
        ('{"prompt": "a", "options": {"colour": 1}}', "wrong options: colour: Extra inputs are "),
        (b'{"prompt": "caf\xe9"}', "not UTF-8: byte 0xe9 at position 16"),
    ],
)
def test_jsonl_mistakes(line: bytes | str, expected: str) -> None:
    """A mistake says what is wrong, and with what."""
    assert mistake(line).startswith(expected)


def test_mistakes_stop_nothing() -> None:
    """A row behind a bad one is read; the bad one has its line, and its id where it has one."""
    found = read('oops\n{"id": 7, "prompt": ""}\n{"id": 8, "prompt": "a"}\n')
    assert [(row.line, row.id, type(row)) for row in found] == [
        (1, None, BadRow),
        (2, 7, BadRow),
        (3, 8, Row),
    ]


def test_option_beside_the_prompt() -> None:
    """An option in the wrong place is a mistake: `local_only` must not be passed over."""
    expected = "local_only: is an option, and belongs into 'options'"
    assert mistake('{"prompt": "a", "local_only": true}') == expected


# CSV and text


def test_csv() -> None:
    """A CSV has its fields in columns; empty cells say nothing, options and schema are JSON."""
    found = read(
        "id,prompt,complexity,options,schema,note\n"
        'a,"Hello, you",3,"{""seed"": 1}",,x\n'
        'b,Bye,,,"name, age int"\n',
        "csv",
    )
    first, second = found
    assert isinstance(first, Row)
    assert isinstance(second, Row)
    assert (first.id, first.prompt, first.schema) == ("a", "Hello, you", None)
    assert first.options == {"complexity": "3", "seed": 1}
    assert (second.options, second.schema and list(second.schema["properties"])) == (
        {},
        ["name", "age"],
    )


def test_csv_lines() -> None:
    """A row that takes several lines has the number of its first one; empty lines count."""
    found = read('prompt\n"a\r\nb"\n\nc\n', "csv")
    assert [(row.line, getattr(row, "prompt", None)) for row in found] == [(2, "a\r\nb"), (5, "c")]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"caf\xe9,", "not UTF-8: byte 0xe9 at position 4"),
        (b"a,3,b", "found 3 cells, and the first line has 2"),
        (b'"a"b,3', "not CSV: "),
        (b",3", "no prompt"),
        (b"a,12", "wrong options: complexity: "),
    ],
)
def test_csv_mistakes(line: bytes, expected: str) -> None:
    """A bad row of a CSV stops nothing either."""
    bad, good = read(b"prompt,complexity\n" + line + b"\nfine,3\n", "csv")
    assert isinstance(bad, BadRow)
    assert bad.line == 2
    assert bad.error.startswith(expected)
    assert isinstance(good, Row)
    assert good.line == 3


def test_csv_open_quote() -> None:
    """A quote that is never closed is a mistake, and not a prompt of all that follows."""
    assert mistake('prompt\n"a\nb\n', "csv").startswith("not CSV: ")


def test_csv_bad_options() -> None:
    """Options that are not JSON are reported."""
    assert mistake("prompt,options\na,{b\n", "csv").startswith("options: not JSON: ")


def test_csv_long_cell() -> None:
    """A prompt may be longer than the csv module's own limit."""
    [row] = read("prompt\n" + "a" * 1_000_000, "csv")
    assert isinstance(row, Row)


@pytest.mark.parametrize("data", ["", "question,answer\na,b\n", '"prompt"x\na'])
def test_csv_without_prompts(data: str) -> None:
    """A CSV without a column of prompts is refused as a whole, before the first row."""
    with pytest.raises(RequestError, match=r"column 'prompt'|line 1: not CSV"):
        rows.read(data.encode().splitlines(keepends=True), "csv", TIERED)


def test_text() -> None:
    """A line of text is a prompt as it stands; empty lines are none."""
    found = read(b"  Hello \r\n\n\t\nBye\nca\xe9\n", "text")
    assert [(row.line, getattr(row, "prompt", None)) for row in found] == [
        (1, "  Hello "),
        (4, "Bye"),
        (5, None),
    ]


# Defaults, keys and the rest


def test_defaults() -> None:
    """What the row says itself wins over what holds for all."""
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
def test_directions(own: dict[str, Any]) -> None:
    """Where a row says itself how hard it is, the tier that holds for all does not."""
    row = read_one({"prompt": "a"} | own, options={"tier": "cloud", "seed": "1"})
    assert "tier" not in row.options
    assert row.options["seed"] == "1"


def test_directions_for_others() -> None:
    """Another model than `tiered` takes no notice of complexity, task and tier."""
    data = b'{"prompt": "a", "complexity": 3, "task": "x", "tier": "y"}'
    [row] = rows.read([data], "jsonl", Defaults("other/echo", EchoOptions))
    assert isinstance(row, Row)
    assert row.options == {}


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
    """A row that would be asked in the same way keeps its key; one with an id may also move."""
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
    """A row that would be asked in another way has another key."""
    assert read_one({"id": "a", "prompt": "a"}).key != read_one(other).key


def test_key_with_settings() -> None:
    """Settings for all rows are part of what is asked."""
    row = {"id": "a", "prompt": "a"}
    assert read_one(row).key != read_one(row, options={"temperature": "1"}).key
    assert read_one(row).key != read_one(row, system="Be brief").key


def test_key_of_what_is_asked_again() -> None:
    """Rows that say the same under the same id have keys of their own, the same ones each time."""
    same = '{"id": 1, "prompt": "a"}\n'
    keys = [[row.key for row in read(same * 3) if isinstance(row, Row)] for _ in range(2)]
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == 3
    assert keys[0][0] == read_one({"id": 1, "prompt": "a"}).key


def test_key_with_half_a_surrogate_pair() -> None:
    """What JSON can hold and UTF-8 can't has a key as well."""
    [row] = read('{"prompt": "\\ud800"}')
    assert isinstance(row, Row)


@pytest.mark.parametrize(
    ("form", "data"),
    [
        ("jsonl", '{"prompt": "a"}\n\noops\n'),
        ("csv", 'prompt\n"a\nb"\n\nc\n'),
        ("text", "a\n\nb"),
    ],
)
def test_count(form: Format, data: str) -> None:
    """As many rows are counted as are read."""
    lines = data.encode().splitlines(keepends=True)
    assert rows.count(lines, form) == len(read(data, form)) == 2


def test_formats_by_name() -> None:
    """The end of a file's name tells its format, or an error says what to do."""
    names = ("a.jsonl", "a.NDJSON", "a.b.csv", "a.txt")
    found = [rows.format_of(Path(name)) for name in names]
    assert found == ["jsonl", "jsonl", "csv", "text"]
    with pytest.raises(RequestError, match=r"a\.json .*--format jsonl\|csv\|text"):
        rows.format_of(Path("a.json"))
