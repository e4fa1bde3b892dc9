"""What `--schema` names."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import click

from .. import json_schema
from ..errors import RequestError

schema_option = click.option(
    "schema", "--schema", help="JSON schema, llm's concise form of one, or a file"
)


def read(given: str | None) -> dict[str, Any] | None:
    """The JSON schema, checked. Raises RequestError."""
    if not given:
        return None
    try:
        schema = json_schema.parse(_text(given))
        json_schema.check(schema)
    except (ValueError, OSError) as error:
        raise RequestError(f"--schema: {error}") from None
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
