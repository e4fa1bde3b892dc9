"""JSONL, CSV and text: what a row is in each, and what is wrong with bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_tiered.batch.formats import FORMATS, Format, count, format_of, read_fields
from llm_tiered.batch.rows import BadRow, Row
from llm_tiered.errors import RequestError
from tests.batch.reading import mistake, read


def test_lines() -> None:
    """Empty lines are not rows but count as lines; the line ends of any system are accepted."""
    rows = read('\n{"prompt": "a"}\r\n  \n{"prompt": "b"}')
    assert [(row.line, row.id) for row in rows] == [(2, None), (4, None)]


@pytest.mark.parametrize("form", FORMATS)
def test_byte_order_mark(form: Format) -> None:
    """A byte order mark at the beginning is ignored."""
    text = {"jsonl": '{"prompt": "é"}', "csv": "prompt\né", "text": "é"}[form]
    [row] = read(b"\xef\xbb\xbf" + text.encode(), form)
    assert isinstance(row, Row)
    assert row.prompt == "é"


def test_csv() -> None:
    """Columns of a CSV are fields; empty cells are absent, options and schema are JSON."""
    first, second = read(
        "id,prompt,complexity,options,schema,note\n"
        'a,"Hello, you",3,"{""seed"": 1}",,x\n'
        'b,Bye,,,"name, age int"\n',
        "csv",
    )
    assert isinstance(first, Row)
    assert isinstance(second, Row)
    assert (first.id, first.prompt, first.schema) == ("a", "Hello, you", None)
    assert first.options == {"complexity": "3", "seed": 1}
    assert (second.options, second.schema and list(second.schema["properties"])) == (
        {},
        ["name", "age"],
    )


def test_csv_lines() -> None:
    """A row of several lines has the number of the first one; empty lines count."""
    rows = read('prompt\n"a\r\nb"\n\nc\n', "csv")
    assert [(row.line, getattr(row, "prompt", None)) for row in rows] == [(2, "a\r\nb"), (5, "c")]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"caf\xe9,", "not UTF-8: byte 0xe9 at position 4"),
        (b"a,3,b", "found 3 cells, but the first line has 2"),
        (b'"a"b,3', "not CSV: "),
        (b",3", "no prompt"),
        (b"a,12", "wrong options: complexity: "),
    ],
)
def test_csv_mistakes(line: bytes, expected: str) -> None:
    """The rows after a bad row of a CSV are read."""
    bad, good = read(b"prompt,complexity\n" + line + b"\nfine,3\n", "csv")
    assert isinstance(bad, BadRow)
    assert bad.line == 2
    assert bad.error.startswith(expected)
    assert isinstance(good, Row)
    assert good.line == 3


def test_csv_open_quote() -> None:
    """A quote without an end is a mistake, not a prompt that holds the rest of the file."""
    assert mistake('prompt\n"a\nb\n', "csv").startswith("not CSV: ")


def test_csv_bad_options() -> None:
    """Options that are not JSON are reported."""
    assert mistake("prompt,options\na,{b\n", "csv").startswith("options: not JSON: ")


def test_csv_long_cell() -> None:
    """A prompt may be longer than the limit of the csv module."""
    [row] = read("prompt\n" + "a" * 1_000_000, "csv")
    assert isinstance(row, Row)


@pytest.mark.parametrize("data", ["", "question,answer\na,b\n", '"prompt"x\na'])
def test_csv_without_prompts(data: str) -> None:
    """A CSV without a column of prompts is refused before the first row is read."""
    with pytest.raises(RequestError, match=r"column 'prompt'|line 1: not CSV"):
        read_fields(data.encode().splitlines(keepends=True), "csv")


def test_text() -> None:
    """Each line of text is a prompt, spaces included; empty lines are not."""
    rows = read(b"  Hello \r\n\n\t\nBye\nca\xe9\n", "text")
    assert [(row.line, getattr(row, "prompt", None)) for row in rows] == [
        (1, "  Hello "),
        (4, "Bye"),
        (5, None),
    ]


@pytest.mark.parametrize(
    ("form", "data"),
    [
        ("jsonl", '{"prompt": "a"}\n\noops\n'),
        ("csv", 'prompt\n"a\nb"\n\nc\n'),
        ("text", "a\n\nb"),
    ],
)
def test_count(form: Format, data: str) -> None:
    """The count is the number of rows that are read, bad ones included."""
    lines = data.encode().splitlines(keepends=True)
    assert count(lines, form) == len(read(data, form)) == 2


def test_format_of() -> None:
    """The suffix of a file decides its format; an unknown one is an error with its fix."""
    names = ("a.jsonl", "a.NDJSON", "a.b.csv", "a.txt")
    assert [format_of(Path(name)) for name in names] == ["jsonl", "jsonl", "csv", "text"]
    with pytest.raises(RequestError, match=r"a\.json .*--format jsonl\|csv\|text"):
        format_of(Path("a.json"))
