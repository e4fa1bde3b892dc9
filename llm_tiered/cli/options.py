"""Options that several commands have, and how their values are read."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from pydantic import ValidationError

from .. import json_schema
from ..errors import RequestError
from ..router.failures import explain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from llm.models import _BaseModel


Command = TypeVar("Command", bound="Callable[..., Any]")


class WrongUsage(click.ClickException):
    """A mistake in the arguments or the input of a command; it exits with 2."""

    exit_code = 2


class _Duration(click.ParamType):  # type: ignore[type-arg]  # older versions are not generic
    """A length of time: a number with a unit, such as 90s, 10m or 2h; without one, seconds."""

    name = "duration"

    def convert(self, value: Any, parameter: Any, context: Any) -> timedelta:
        """Return the length of time; a mistake ends the command."""
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)\s*([smhd]?)", str(value).strip())
        if match is None:
            self.fail(f"found {value!r}, expected a duration such as 90s, 10m or 2h")
        units = {"": "seconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
        return timedelta(**{units[match[2]]: float(match[1])})


DURATION = _Duration()

schema_option = click.option(
    "schema", "--schema", help="JSON schema, llm's concise form of one, or a file with either"
)
tiered_option = click.option(
    "options",
    "-o",
    "--option",
    type=(str, str),
    multiple=True,
    metavar="NAME VALUE",
    help="Option of `tiered`",
)
tiers_option = click.option(
    "names", "--tiers", metavar="TIER,…", help="Tiers to ask  [default: all in the config]"
)


def number_option(
    *names: str, text: str, default: int | None = None, least: int = 1
) -> Callable[[Command], Command]:
    """An option for a whole number of at least `least`; `text` is its help."""
    return click.option(
        *names,
        type=click.IntRange(min=least),
        default=default,
        show_default=True,
        metavar="N",
        help=text,
    )


concurrency_option = number_option(
    "--concurrency", default=8, text="Number of cloud requests at the same time"
)


def read_options(model: _BaseModel, pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the model's options: those given to the command override those that the user stored.

    Raises RequestError if the model does not accept them.
    """
    from llm.cli import get_model_options

    options: dict[str, Any] = get_model_options(model.model_id) | dict(pairs)
    try:
        model.Options(**options)
    except ValidationError as error:
        raise RequestError(explain(error).reason) from None
    return options


def read_schema(text: str | None) -> dict[str, Any] | None:
    """Return the schema that `--schema` describes, validated. Raises RequestError."""
    if not text:
        return None
    try:
        schema = json_schema.parse(_file_or_text(text))
        json_schema.check(schema)
    except (ValueError, OSError) as error:
        raise RequestError(f"--schema: {error}") from None
    return schema


def _file_or_text(text: str) -> str:
    path = Path(text)
    # Unlike pathlib, os.path simply says that text too long for a name is not a file.
    if not text.lstrip().startswith("{") and os.path.isfile(text):
        return path.read_text("utf-8")
    has_words = re.search(r"[\s,{]", text)
    if not has_words and (path.suffix or path.name != text):
        raise FileNotFoundError(f"there is no file {text}")
    return text
