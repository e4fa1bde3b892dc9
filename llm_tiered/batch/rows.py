"""The fields of each row → validated rows with everything that is sent to the model."""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from .. import json_schema
from ..router.failures import explain
from ..wording import did_you_mean
from .formats import read_fields, short

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import llm

    from .formats import Format

# Options of `tiered` that a row may have beside its prompt. Each of them selects the tier.
TIER_OPTIONS = ("complexity", "task", "tier")
FIELDS = ("prompt", "system", *TIER_OPTIONS, "schema", "options", "id")

# A column may have any name but one that is this much like an option's.
ALIKE = 0.85

_ID_TYPES = (str, int, type(None))


@dataclass(frozen=True)
class Defaults:
    """The model of all rows, and what applies to rows without a value of their own."""

    model_id: str
    options_type: type[llm.Options]
    system: str | None = None
    schema: dict[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A prompt and what is sent with it. `line` counts from 1.

    `key` identifies the request: it changes when the model would be asked something else.
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
    """A row that can't be sent to a model, and why."""

    line: int
    id: str | int | float | None
    error: str


def read(stream: Iterable[bytes], form: Format, defaults: Defaults) -> Iterator[Row | BadRow]:
    """Return the rows of a file; `stream` yields its lines.

    Raises RequestError if a CSV has no prompt column.
    """
    return _rows(read_fields(stream, form), defaults)


def _rows(
    records: Iterable[tuple[int, dict[str, Any] | ValueError]], defaults: Defaults
) -> Iterator[Row | BadRow]:
    with closing(_SeenKeys()) as seen:
        for line, record in records:
            if isinstance(record, ValueError):
                yield BadRow(line, None, str(record))
                continue
            fields = {name: value for name, value in record.items() if value is not None}
            id_ = fields.get("id")
            if not _may_be_id(id_):
                yield BadRow(line, None, f"id: found {short(id_)}, expected text or a number")
                continue
            try:
                row = _row(line, id_, fields, defaults)
            except ValueError as error:
                yield BadRow(line, id_, str(error))
                continue
            yield row if id_ is None else _with_unique_key(row, seen)


def _with_unique_key(row: Row, seen: _SeenKeys) -> Row:
    """Return the row; one that repeats an earlier one gets a key, and so an answer, of its own."""
    times = seen.add(row.key)
    return replace(row, key=f"{row.key}-{times}") if times else row


class _SeenKeys:
    """How often each key was there, on disk beyond a few megabytes: files may have any length."""

    def __init__(self) -> None:
        # Without a name it is a temporary database. One thread reads the first rows, another one
        # the rest.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute("pragma synchronous = off")
        self._database.execute("pragma journal_mode = off")
        self._database.execute("create table seen (key blob primary key, times) without rowid")

    def add(self, key: str) -> int:
        """Note a key, and return how often it was there before."""
        query = (
            "insert into seen values (?, 0) on conflict (key) do update set times = times + 1 "
            "returning times"
        )
        [(times,)] = self._database.execute(query, (bytes.fromhex(key),))
        return int(times)

    def close(self) -> None:
        """Delete the database."""
        self._database.close()


def _may_be_id(value: Any) -> bool:
    # The output is JSON, which has no NaN and no infinity.
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
    # Journals of earlier versions hold these keys.
    request = [line if id_ is None else id_, prompt, system, schema, options, defaults.model_id]
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode())
    return Row(line, id_, prompt, system, schema, options, digest.hexdigest()[:32])


def _expect_text(fields: dict[str, Any], name: str) -> str:
    text = fields[name]
    if not isinstance(text, str):
        raise ValueError(f"{name}: found {short(text)}, expected text")
    return text


def _schema(value: Any) -> dict[str, Any]:
    try:
        schema = json_schema.parse(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"schema: {error}") from None
    if not isinstance(schema, dict):
        raise ValueError(f"schema: found {short(schema)}, expected an object")
    return schema


def _check_column(name: str, known: Iterable[str]) -> None:
    """Raise ValueError if a column that is not ours looks like an option.

    Ignoring `local_only` silently would send away a prompt that must stay here.
    """
    if name.lower() in known:
        raise ValueError(f"{name}: is an option and belongs in 'options'")
    if hint := did_you_mean(name, known, likeness=ALIKE):
        raise ValueError(f"{name}: is not an option, {hint}")


def _options(fields: dict[str, Any], defaults: Defaults) -> dict[str, Any]:
    """Return the options of a row: its own, then the defaults. Raises ValueError."""
    known = defaults.options_type.model_fields
    for name in fields:
        if name not in FIELDS:
            _check_column(name, known)
    own = fields.get("options", {})
    if isinstance(own, str):
        try:
            own = json.loads(own)
        except ValueError as error:
            raise ValueError(f"options: not JSON: {error}") from None
    if not isinstance(own, dict):
        raise ValueError(f"options: found {short(own)}, expected an object")
    own = own | {name: fields[name] for name in TIER_OPTIONS if name in fields and name in known}
    # A row that selects its tier overrides every default that does.
    selects = any(name in own for name in TIER_OPTIONS)
    options = {
        name: value
        for name, value in defaults.options.items()
        if not (selects and name in TIER_OPTIONS)
    } | own
    try:
        defaults.options_type(**options)
    except ValidationError as error:
        raise ValueError(explain(error).reason) from None
    return options
