"""What commands print and write: tables for reading, JSON for programs, files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ..errors import RequestError, TieredError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

json_option = click.option("json_", "--json", is_flag=True, help="Output as JSON")


def echo_json(value: Any) -> None:
    """Print a value as indented JSON; paths and the like become text."""
    click.echo(json.dumps(value, indent=2, default=str, ensure_ascii=False))


def echo_table(rows: Sequence[Sequence[Any]], headers: Sequence[str] = ()) -> None:
    """Print rows in aligned columns. None is an empty cell."""
    from tabulate import tabulate

    click.echo(tabulate(rows, headers, tablefmt="plain", disable_numparse=True))


def echo_note(line: str) -> None:
    """Print a line on stderr, so that it does not end up in the output."""
    click.echo(line, err=True)


def check_folder(file: Path) -> None:
    """Raise RequestError if the folder that a file is to be written to does not exist."""
    folder = file.absolute().parent
    if not folder.is_dir():
        raise RequestError(f"there is no folder {folder} for {file.name}")


def write_text(path: Path, text: str) -> None:
    """Write a file. Raises TieredError with the reason if that fails."""
    try:
        # A lone half of a surrogate pair in an answer must not cost the whole file.
        path.write_text(text, "utf-8", errors="backslashreplace")
    except OSError as error:
        raise TieredError(f"{path} can't be written: {error.strerror or error}") from None
