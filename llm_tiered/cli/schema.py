"""What `--schema` names."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import click

from ..batch.rows import parse_schema
from ..errors import RequestError
from ..evaluation.scoring import check_schema

schema_option = click.option(
    "schema", "--schema", help="JSON schema, llm's concise form of one, or a file"
)


def read(given: str | None) -> dict[str, Any] | None:
    """The JSON schema, checked. Raises RequestError."""
    if not given:
        return None
    try:
        schema = parse_schema(_text(given))
        check_schema(schema)
    except (ValueError, OSError) as error:
        raise RequestError(f"--schema: {str(error).removeprefix('schema: ')}") from None
    return schema


def _text(given: str) -> str:
    path = Path(given)
    # Unlike pathlib, this takes a long schema for no file.
    if not given.lstrip().startswith("{") and os.path.isfile(given):
        return path.read_text("utf-8")
    in_words = re.search(r"[\s,{]", given)
    if not in_words and (path.suffix or path.name != given):
        raise FileNotFoundError(f"there is no file {given}")
    return given
