"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

json_option = click.option("json_", "--json", is_flag=True, help="Output as JSON")


def echo_json(value: Any) -> None:
    """Print a value as indented JSON; paths and the like become text."""
    click.echo(json.dumps(value, indent=2, default=str, ensure_ascii=False))


def echo_table(rows: Sequence[Sequence[Any]], headers: Sequence[str] = ()) -> None:
    """Print rows in aligned columns. None is an empty cell."""
    from tabulate import tabulate

    click.echo(tabulate(rows, headers, tablefmt="plain", disable_numparse=True))
