"""`llm tiered compare`: the same prompt through several tiers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from pydantic import ValidationError

from ..compare.figures import cells, distinct_answers, headers, notes
from ..compare.page import page
from ..compare.runs import Column, CompareRequest, compare
from ..errors import RequestError, TieredError
from ..evaluation.tiers import FIXED_OPTIONS, select_tiers
from ..router.failures import explain
from .lookup import tiered_model
from .output import echo_json, echo_table, json_option
from .schema import read, schema_option

if TYPE_CHECKING:
    from ..router.model import TieredModel


@click.command("compare")
@click.argument("prompt")
@click.option("names", "--tiers", metavar="TIER,…", help="Tiers to ask; without it, all of them")
@click.option("-s", "--system", help="System prompt to use")
@schema_option
@click.option(
    "options", "-o", "--option", type=(str, str), multiple=True, help="Options of `tiered`"
)
@click.option(
    "-n",
    "--runs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How often each tier is asked",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the comparison into this file, as HTML",
)
@json_option
@click.pass_context
def command(  # noqa: PLR0913, PLR0917 - one for each option
    context: click.Context,
    prompt: str,
    names: str | None,
    system: str | None,
    schema: str | None,
    options: tuple[tuple[str, str], ...],
    runs: int,
    html: Path | None,
    json_: bool,
) -> None:
    """Ask several tiers the same, and show answers, times, tokens and costs side by side.

    Each tier is asked by itself, and no other answers in its place. The first answer of a local
    model includes loading it: with --runs 3, medians leave that out. Tokens a second are those of
    the whole answer, with the wait for its beginning.

    Exits with 1 if no tier answered.
    """
    model = tiered_model()
    wanted = select_tiers(names)
    if html and not html.absolute().parent.is_dir():
        raise RequestError(f"there is no folder {html.absolute().parent} for the page")
    request = CompareRequest(prompt, system, read(schema), _options(model, dict(options)), runs)
    columns = []
    for column in compare(model, wanted, request):
        columns.append(column)
        if not json_:
            _echo_answers(column)
    if html:
        _write(html, page(request, columns))
    if json_:
        echo_json([column.as_dict() for column in columns])
    else:
        names_ = headers(columns)
        echo_table(
            [[column.tier, column.model, *cells(column)] for column in columns],
            ["tier", "model", *names_],
        )
    if not any(column.answers for column in columns):
        context.exit(1)


def _options(model: TieredModel, given: dict[str, str]) -> dict[str, str]:
    """The options as `llm prompt` reads them: those given, then those stored for the model."""
    from llm.cli import get_model_options

    for name in given:
        if name in FIXED_OPTIONS:
            raise RequestError(f"-o {name}: each tier is asked by itself", fix="--tiers names them")
    options = get_model_options(model.model_id) | given
    try:
        model.Options(**options)
    except ValidationError as error:
        raise RequestError(explain(error).reason) from None
    return options


def _echo_answers(column: Column) -> None:
    click.secho(f"── {column.tier}: {column.model} ──", bold=True)
    for note in notes(column):
        click.echo(note)
    answers = distinct_answers(column)
    for number, text in enumerate(answers, start=1):
        if len(answers) > 1:
            click.echo(f"({number} of {len(answers)} different answers)")
        click.echo(text.strip())
    click.echo()


def _write(html: Path, text: str) -> None:
    try:
        html.write_text(text, "utf-8", errors="backslashreplace")
    except OSError as error:
        raise TieredError(f"{html} can't be written: {error.strerror}") from None
