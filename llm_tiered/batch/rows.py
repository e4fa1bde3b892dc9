"""Prompts in JSONL, CSV or lines of text → rows, validated, one at a time."""

from __future__ import annotations

import codecs
import csv
import hashlib
import json
import math
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from pydantic import ValidationError

from .. import json_schema
from ..errors import RequestError
from ..router.failures import explain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    import llm

Format = Literal["jsonl", "csv", "text"]
FORMATS: tuple[Format, ...] = get_args(Format)
_ENDINGS: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".txt": "text",
}

# Options of `tiered` that may stand beside the prompt. They say the same thing in three ways.
DIRECTIONS = ("complexity", "task", "tier")
FIELDS = ("prompt", "system", *DIRECTIONS, "schema", "options", "id")

# Characters. The csv module's own limit is 128 KB, less than a long prompt has.
_LARGEST_CELL = 10_000_000

_ID_TYPES = (str, int, type(None))

_Record: TypeAlias = "tuple[int, dict[str, Any] | ValueError]"


@dataclass(frozen=True)
class Defaults:
    """What holds for each row, as far as the row itself says nothing else."""

    model_id: str
    options_type: type[llm.Options]
    system: str | None = None
    schema: dict[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A prompt and all that goes with it. `line` counts from 1.

    `key` stays the same for as long as the row would be asked in the same way.
    """

    line: int
    id: str | int | float | None
    prompt: str
    system: str | None
    schema: dict[str, Any] | None
    options: dict[str, Any]
    key: str


@dataclass(frozen=True)
class BadRow:
    """A row that can't be asked, and why."""

    line: int
    id: str | int | float | None
    error: str


def format_of(path: Path) -> Format:
    """The format that a file's name tells. Raises RequestError where it tells none."""
    try:
        return _ENDINGS[path.suffix.lower()]
    except KeyError:
        raise RequestError(
            f"the name of {path} does not tell its format", fix=f"--format {'|'.join(FORMATS)}"
        ) from None


def read(stream: Iterable[bytes], form: Format, defaults: Defaults) -> Iterator[Row | BadRow]:
    """The rows of a file, given as its lines. Raises RequestError if a CSV has no prompts."""
    if form == "csv":
        return _rows(_csv(stream), defaults)
    return _rows(_jsonl(stream) if form == "jsonl" else _text(stream), defaults)


def count(stream: Iterable[bytes], form: Format) -> int:
    """How many rows there are, bad ones included."""
    if form == "csv":
        return sum(1 for _ in _csv(stream))
    return sum(1 for line in stream if line.strip())


def _rows(records: Iterable[_Record], defaults: Defaults) -> Iterator[Row | BadRow]:
    seen: Counter[str] = Counter()
    for line, record in records:
        if isinstance(record, ValueError):
            yield BadRow(line, None, str(record))
            continue
        fields = {name: value for name, value in record.items() if value is not None}
        id_ = fields.get("id")
        if not _may_be_id(id_):
            yield BadRow(line, None, f"id: found {_shown(id_)}, expected text or a number")
            continue
        try:
            row = _row(line, id_, fields, defaults)
        except ValueError as error:
            yield BadRow(line, id_, str(error))
            continue
        yield row if id_ is None else _told_apart(row, seen)


def _told_apart(row: Row, seen: Counter[str]) -> Row:
    """The row; one that repeats an earlier one gets a key, and so an answer, of its own."""
    times = seen[row.key]
    seen[row.key] += 1
    return replace(row, key=f"{row.key}-{times}") if times else row


def _may_be_id(value: Any) -> bool:
    # JSON has no numbers like NaN, and the output has to be JSON.
    return math.isfinite(value) if isinstance(value, float) else isinstance(value, _ID_TYPES)


def _row(
    line: int, id_: str | int | float | None, fields: dict[str, Any], defaults: Defaults
) -> Row:
    if not fields.get("prompt"):
        raise ValueError("no prompt")
    prompt = _expect_text(fields, "prompt")
    system = _expect_text(fields, "system") if "system" in fields else defaults.system
    schema = _schema(fields["schema"]) if "schema" in fields else defaults.schema
    options = _options(fields, defaults)
    if not prompt.strip():
        raise ValueError("no prompt")
    asked = [line if id_ is None else id_, prompt, system, schema, options, defaults.model_id]
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode())
    return Row(line, id_, prompt, system, schema, options, digest.hexdigest()[:32])


def _expect_text(fields: dict[str, Any], name: str) -> str:
    text = fields[name]
    if not isinstance(text, str):
        raise ValueError(f"{name}: found {_shown(text)}, expected text")
    return text


def _schema(value: Any) -> dict[str, Any]:
    try:
        schema = json_schema.parse(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"schema: {error}") from None
    if not isinstance(schema, dict):
        raise ValueError(f"schema: found {_shown(schema)}, expected an object")
    return schema


def _options(fields: dict[str, Any], defaults: Defaults) -> dict[str, Any]:
    known = defaults.options_type.model_fields
    for name in fields:
        if name in known and name not in FIELDS:
            # To pass over `local_only` in silence would send away what was to stay here.
            raise ValueError(f"{name}: is an option, and belongs into 'options'")
    own = fields.get("options", {})
    if isinstance(own, str):
        try:
            own = json.loads(own)
        except ValueError as error:
            raise ValueError(f"options: not JSON: {error}") from None
    if not isinstance(own, dict):
        raise ValueError(f"options: found {_shown(own)}, expected an object")
    own = own | {name: fields[name] for name in DIRECTIONS if name in fields and name in known}
    redirected = any(name in own for name in DIRECTIONS)
    options = {
        name: value
        for name, value in defaults.options.items()
        if not (redirected and name in DIRECTIONS)
    } | own
    try:
        defaults.options_type(**options)
    except ValidationError as error:
        raise ValueError(explain(error).reason) from None
    return options


def _jsonl(stream: Iterable[bytes]) -> Iterator[_Record]:
    for number, line in _lines(stream):
        if line.strip():
            yield number, _parse_json(line)


def _parse_json(line: bytes) -> dict[str, Any] | ValueError:
    try:
        found = json.loads(_decode(line))
    except json.JSONDecodeError as error:
        return ValueError(f"not JSON: {error.msg} at column {error.colno}")
    except RecursionError:
        return ValueError("not JSON that can be read: nested too deeply")
    except ValueError as error:
        return error
    if not isinstance(found, dict):
        return ValueError(f"found {_shown(found)}, expected an object with a prompt")
    return found


def _text(stream: Iterable[bytes]) -> Iterator[_Record]:
    for number, line in _lines(stream):
        if line.strip():
            try:
                yield number, {"prompt": _decode(line).rstrip("\r\n")}
            except ValueError as error:
                yield number, error


def _csv(stream: Iterable[bytes]) -> Iterator[_Record]:
    csv.field_size_limit(_LARGEST_CELL)
    # A wrong byte is found when its row is complete: raised in here, it would end the reader.
    lines = (line.decode("utf-8", "surrogateescape") for _, line in _lines(stream))
    reader = csv.reader(lines, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise RequestError(f"line 1: not CSV: {error}") from None
    if "prompt" not in header:
        raise RequestError(f"the CSV has no column 'prompt'; its first line is {_shown(header)}")

    def records() -> Iterator[_Record]:
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

    return records()


def _parse_cells(header: list[str], cells: list[str]) -> dict[str, Any] | ValueError:
    if len(cells) > len(header):
        return ValueError(f"found {len(cells)} cells, and the first line has {len(header)}")
    try:
        for cell in cells:
            _decode(cell.encode("utf-8", "surrogateescape"))
    except ValueError as error:
        return error
    return {name: cell for name, cell in zip(header, cells, strict=False) if cell}


def _lines(stream: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """The lines with their numbers, without a byte order mark."""
    lines = iter(stream)
    first = next(lines, b"").removeprefix(codecs.BOM_UTF8)
    return enumerate(chain([first], lines), start=1)


def _decode(text: bytes) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        where = f"byte 0x{text[error.start]:02x} at position {error.start + 1}"
        raise ValueError(f"not UTF-8: {where}") from None


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}…"
