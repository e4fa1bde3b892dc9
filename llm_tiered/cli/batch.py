"""`llm tiered batch`: answer the prompts of a file."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click
import llm
from pydantic import ValidationError

from ..batch import rows
from ..batch.formats import FORMATS, count, format_of
from ..batch.journal import Journal
from ..batch.limits import limit
from ..batch.output import Output, open_output
from ..batch.progress import Progress, WarnOnce
from ..batch.runner import BatchRun, BatchSettings
from ..config.settings import load_settings
from ..errors import RequestError, TieredError
from ..router.failures import explain
from .schema import read, schema_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..batch.formats import Format
    from ..batch.limits import AsyncModel

STDIN = "-"


class WrongUsage(click.ClickException):
    """A mistake that shows before the first row."""

    exit_code = 2


@click.command("batch")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the answers go; a batch with one can be taken up again. Default: stdout",
)
@click.option("form", "--format", type=click.Choice(FORMATS), help="Format of FILE")
@click.option("-m", "--model", "name", default="tiered", show_default=True, help="Model to use")
@click.option("-s", "--system", help="System prompt, for rows without one")
@click.option(
    "options",
    "--option",
    type=(str, str),
    multiple=True,
    metavar="KEY VALUE",
    help="Option of the model, for rows without it",
)
@schema_option
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    metavar="N",
    help="Requests to the cloud at a time",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="Requests to the cloud a minute, at most",
)
@click.option(
    "number", "--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N rows"
)
@click.option(
    "--unordered", is_flag=True, help="Write answers as they come, not in the rows' order"
)
@click.option("--strict", is_flag=True, help="Stop at the first row that fails")
@click.option("--restart", is_flag=True, help="Begin anew: overwrite the output")
@click.option("-n", "--no-log", is_flag=True, help="Don't log the prompts")
@click.pass_context
def command(  # noqa: PLR0913, PLR0917 - one for each option
    context: click.Context,
    file: str,
    output: Path | None,
    form: Format | None,
    name: str,
    system: str | None,
    options: tuple[tuple[str, str], ...],
    schema: str | None,
    concurrency: int,
    rate: float | None,
    number: int | None,
    unordered: bool,
    strict: bool,
    restart: bool,
    no_log: bool,
) -> None:
    """Answer the prompts of a file (JSONL, CSV or a line each; - is stdin), as JSONL.

    JSONL and CSV have the fields prompt and, if wanted, id, system, complexity, task, tier,
    schema and options. A batch with an output that was stopped or killed goes on where it was
    when it is started again, and then tries again what failed.

    Exits with 0 if all rows are answered, 1 if any failed, 2 for wrong usage, 130 after Ctrl-C.
    """
    with ExitStack() as stack:
        with _wrong_usage():
            # Once, and not with each row.
            load_settings()
            model = _model(name)
            defaults = _defaults(model, system, schema, dict(options))
            form = form or ("jsonl" if file == STDIN else format_of(Path(file)))
            every = rows.read(stack.enter_context(_open(file)), form, defaults)
            found: Iterator[rows.Row | rows.BadRow] = islice(every, number)
            journal = None
            if output and (output.is_file() or not output.exists()):
                if file != STDIN and output.exists() and output.samefile(file):
                    raise RequestError(f"{output} is the input")
                journal = Journal(output, restart=restart)
                stack.callback(journal.close)
                found = journal.check(found)
            answers = stack.enter_context(_open_output(output, restart=restart))
        progress = Progress(_count(file, form, number))
        stack.callback(progress.close)
        settings = BatchSettings(
            limit(model, concurrency, rate), concurrency, not unordered, strict, not no_log
        )
        batch = BatchRun(settings, answers, journal, progress)
        stack.enter_context(_warnings_once())
        asyncio.run(batch.run(found))
    if batch.interrupted:
        again = "the same command goes on from here" if journal else "with --output it could go on"
        click.echo(f"Stopped: {again}", err=True)
        context.exit(130)
    if progress.failed:
        context.exit(1)


@contextmanager
def _wrong_usage() -> Iterator[None]:
    """Show what goes wrong before the first row."""
    try:
        yield
    except (TieredError, OSError) as error:
        message = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
        raise WrongUsage(str(message)) from error


def _model(name: str) -> AsyncModel:
    try:
        model: AsyncModel = llm.get_async_model(name)
    except llm.UnknownModelError as error:
        raise RequestError(error.args[0], fix="llm models --async") from None
    return model


def _defaults(
    model: AsyncModel, system: str | None, schema: str | None, options: dict[str, str]
) -> rows.Defaults:
    from llm.cli import get_model_options

    options = get_model_options(model.model_id) | options
    try:
        model.Options(**options)
        return rows.Defaults(model.model_id, model.Options, system, read(schema), options)
    except ValidationError as error:
        raise RequestError(explain(error).reason) from None
    except ValueError as error:
        raise RequestError(str(error)) from None


@contextmanager
def _open(file: str) -> Iterator[BinaryIO]:
    if file != STDIN:
        with Path(file).open("rb") as stream:
            yield stream
        return
    if sys.stdin is None:
        raise RequestError("standard input is closed")
    stdin = sys.stdin.buffer
    # A buffer of its own: Python can't end while a thread waits for input with that of sys.stdin.
    raw = getattr(stdin, "raw", None)
    yield io.BufferedReader(raw) if raw else stdin


@contextmanager
def _open_output(path: Path | None, *, restart: bool) -> Iterator[Output]:
    if path is None and sys.stdout is None:
        raise RequestError("standard output is closed", fix="-o FILE")
    if path is None:
        yield Output(sys.stdout.buffer)
        return
    with open_output(path, restart=restart) as output:
        yield output


def _count(file: str, form: Format, number: int | None) -> int | None:
    """How many rows there are, if anybody sees the bar that needs it."""
    if file == STDIN or not sys.stderr.isatty():
        return number
    with Path(file).open("rb") as stream:
        return min(count(stream, form), number or sys.maxsize)


@contextmanager
def _warnings_once() -> Iterator[None]:
    """Show each warning once, above the bar."""
    from tqdm.contrib.logging import logging_redirect_tqdm

    logger = logging.getLogger("llm_tiered")
    once = WarnOnce()
    logger.addFilter(once)
    try:
        with logging_redirect_tqdm([logger]):
            yield
    finally:
        logger.removeFilter(once)
