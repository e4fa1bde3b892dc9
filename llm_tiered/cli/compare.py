"""`llm tiered compare`: the same prompt through several tiers."""

from __future__ import annotations

from pathlib import Path

import click

from ..compare.figures import cells, distinct_answers, headers, notes
from ..compare.page import page
from ..compare.runs import Column, CompareRequest, compare
from ..errors import RequestError
from ..evaluation.tiers import FIXED_OPTIONS, select_tiers
from .lookup import tiered_model
from .options import (
    number_option,
    read_options,
    read_schema,
    schema_option,
    tiered_option,
    tiers_option,
)
from .output import check_folder, echo_json, echo_table, json_option, write_text


@click.command("compare")
@click.argument("prompt")
@tiers_option
@click.option("-s", "--system", help="System prompt")
@schema_option
@tiered_option
@number_option("-n", "--runs", default=1, text="Number of runs for each tier")
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the comparison to this file, as HTML",
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
    """Send one prompt to several tiers and show answers, times, tokens and costs side by side.

    Each tier is asked alone, without fallbacks. The first answer of a local model includes the
    time to load it; with --runs 3 the median excludes that. Tokens per second count the whole
    answer, including the wait for its first token.

    Exits with 1 if no tier answered.
    """
    model = tiered_model()
    tiers = select_tiers(names)
    if html:
        check_folder(html)
    for name, _ in options:
        if name in FIXED_OPTIONS:
            raise RequestError(f"-o {name}: each tier is asked alone", fix="use --tiers")
    values = read_options(model, options)
    request = CompareRequest(prompt, system, read_schema(schema), values, runs)
    columns = []
    for column in compare(model, tiers, request):
        columns.append(column)
        if not json_:
            _echo_answers(column)
    if html:
        write_text(html, page(request, columns))
    if json_:
        echo_json([column.as_dict() for column in columns])
    else:
        echo_table(
            [[column.tier, column.model, *cells(column)] for column in columns],
            ["tier", "model", *headers(columns)],
        )
    if not any(column.answers for column in columns):
        context.exit(1)


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
