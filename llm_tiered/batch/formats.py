"""JSONL, CSV and text files → the fields of each row, one at a time."""

from __future__ import annotations

import codecs
import csv
import json
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from ..errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Format = Literal["jsonl", "csv", "text"]
FORMATS: tuple[Format, ...] = get_args(Format)
_SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".txt": "text",
}

# Characters. The csv module's own limit is 128 KB, and prompts can be longer.
_LARGEST_CELL = 10_000_000

# The line of a row, from 1, and its fields or what is wrong with it.
NumberedFields: TypeAlias = "tuple[int, dict[str, Any] | ValueError]"


def format_of(path: Path) -> Format:
    """Return the format of a file by its suffix. Raises RequestError if there is none."""
    try:
        return _SUFFIXES[path.suffix.lower()]
    except KeyError:
        raise RequestError(
            f"can't tell the format of {path} from its name", fix=f"--format {'|'.join(FORMATS)}"
        ) from None


def read_fields(stream: Iterable[bytes], form: Format) -> Iterator[NumberedFields]:
    """Return the fields of each row. `stream` yields the lines of the file.

    Raises RequestError if a CSV has no prompt column.
    """
    if form == "csv":
        return _csv(stream)
    return _jsonl(stream) if form == "jsonl" else _text(stream)


def count(stream: Iterable[bytes], form: Format) -> int:
    """Return the number of rows, including bad ones."""
    if form == "csv":
        return sum(1 for _ in _csv(stream))
    return sum(1 for line in stream if line.strip())


def _jsonl(stream: Iterable[bytes]) -> Iterator[NumberedFields]:
    for number, line in _lines(stream):
        if line.strip():
            yield number, _parse_json(line)


def _parse_json(line: bytes) -> dict[str, Any] | ValueError:
    try:
        value = json.loads(_decode(line))
    except json.JSONDecodeError as error:
        # Some of Python's messages end like this.
        problem = error.msg.removesuffix(" at")
        return ValueError(f"not JSON: {problem} at column {error.colno}")
    except RecursionError:
        return ValueError("not readable JSON: nested too deeply")
    except ValueError as error:
        return error
    if not isinstance(value, dict):
        return ValueError(f"found {short(value)}, expected an object with a prompt")
    return value


def _text(stream: Iterable[bytes]) -> Iterator[NumberedFields]:
    for number, line in _lines(stream):
        if line.strip():
            try:
                yield number, {"prompt": _decode(line).rstrip("\r\n")}
            except ValueError as error:
                yield number, error


def _csv(stream: Iterable[bytes]) -> Iterator[NumberedFields]:
    csv.field_size_limit(_LARGEST_CELL)
    # An error raised here would end the reader; invalid bytes are reported once a row is complete.
    lines = (line.decode("utf-8", "surrogateescape") for _, line in _lines(stream))
    reader = csv.reader(lines, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise RequestError(f"line 1: not CSV: {error}") from None
    if "prompt" not in header:
        raise RequestError(f"the CSV has no column 'prompt'; its first line is {short(header)}")

    def rows() -> Iterator[NumberedFields]:
        while True:
            number = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield number, ValueError(f"not CSV: {error}")
                continue
            if cells:
                yield number, _parse_cells(header, cells)

    return rows()


def _parse_cells(header: list[str], cells: list[str]) -> dict[str, Any] | ValueError:
    if len(cells) > len(header):
        return ValueError(f"found {len(cells)} cells, but the first line has {len(header)}")
    try:
        for cell in cells:
            _decode(cell.encode("utf-8", "surrogateescape"))
    except ValueError as error:
        return error
    return {name: cell for name, cell in zip(header, cells, strict=False) if cell}


def _lines(stream: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Number the lines from 1, without a byte order mark."""
    lines = iter(stream)
    first = next(lines, b"").removeprefix(codecs.BOM_UTF8)
    return enumerate(chain([first], lines), start=1)


def _decode(text: bytes) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        where = f"byte 0x{text[error.start]:02x} at position {error.start + 1}"
        raise ValueError(f"not UTF-8: {where}") from None


def short(value: Any) -> str:
    """Return a value as JSON, cut after 60 characters, for an error message."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}…"
