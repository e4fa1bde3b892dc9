"""Rows read from text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llm_tiered.batch import rows
from llm_tiered.batch.rows import BadRow, Defaults, Row
from llm_tiered.router.options import TieredOptions

if TYPE_CHECKING:
    from llm_tiered.batch.formats import Format


def read(data: bytes | str, form: Format = "jsonl", **defaults: Any) -> list[Row | BadRow]:
    """All rows of a file with that content."""
    raw = data.encode() if isinstance(data, str) else data
    lines = raw.splitlines(keepends=True)
    return list(rows.read(lines, form, Defaults("tiered", TieredOptions, **defaults)))


def read_one(*fields: Any, **defaults: Any) -> Row:
    """The only row, a good one, of a JSONL file."""
    [row] = read(json.dumps(dict(*fields)), **defaults)
    assert isinstance(row, Row), row
    return row


def mistake(data: bytes | str, form: Format = "jsonl") -> str:
    """The error of the only row of a file."""
    [row] = read(data, form)
    assert isinstance(row, BadRow)
    return row.error
