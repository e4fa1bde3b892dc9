"""`llm tiered batch`: answer all prompts in a file."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
from contextlib import ExitStack, contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click
import llm

from ..batch import rows
from ..batch.formats import FORMATS, count, format_of
from ..batch.journal import Journal
from ..batch.limits import LOCAL_CONCURRENCY, limit
from ..batch.output import Output, open_output
from ..batch.progress import Progress, WarnOnce
from ..batch.runner import BatchRun, BatchSettings, rows_ahead
from ..config.settings import load_settings
from ..errors import RequestError, TieredError
from ..router.threads import get_async_model
from .options import (
    DURATION,
    WrongUsage,
    concurrency_option,
    number_option,
    read_options,
    read_schema,
    schema_option,
)
from .output import echo_note

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from ..batch.formats import Format
    from ..batch.limits import AsyncModel
    from ..cluster.engine import ClusterEngine

STDIN = "-"


@click.command("batch")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for the answers; a stopped batch needs one to continue  [default: stdout]",
)
@click.option(
    "form", "--format", type=click.Choice(FORMATS), help="Format of FILE  [default: by its name]"
)
@click.option("-m", "--model", "name", default="tiered", show_default=True, help="Model to ask")
@click.option("-s", "--system", help="System prompt for rows without one")
@click.option(
    "options",
    "--option",
    type=(str, str),
    multiple=True,
    metavar="NAME VALUE",
    help="Model option, for rows that do not set it",
)
@schema_option
@concurrency_option
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="Maximum number of cloud requests per minute",
)
@click.option(
    "--wait",
    type=DURATION,
    default="10m",
    show_default=True,
    help="How long rows wait for a cloud model at its limit before they fall back; 0 is not at all",
)
@number_option("number", "--limit", text="Number of rows to answer, starting with the first")
@click.option(
    "--unordered",
    is_flag=True,
    help="Write each answer as soon as it is ready, not in the order of the rows",
)
@click.option("--strict", is_flag=True, help="Start no more rows once one has failed")
@click.option("--restart", is_flag=True, help="Start over and overwrite the output")
@click.option("-n", "--no-log", is_flag=True, help="Don't log the prompts")
@click.option(
    "--dask",
    metavar="ADDRESS",
    help="Dask scheduler whose workers run the local models; local:N starts N workers here",
)
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
    wait: timedelta,
    number: int | None,
    unordered: bool,
    strict: bool,
    restart: bool,
    no_log: bool,
    dask: str | None,
) -> None:
    """Answer the prompts in a file (JSONL, CSV or one per line; - is stdin) and write JSONL.

    Rows of JSONL and CSV have a prompt, and optionally id, system, complexity, task, tier, schema
    and options. With --output, a batch that was stopped or killed continues when the same command
    is run again, and rows that failed are tried again.

    Exits with 0 if all rows are answered, 1 if any failed, 2 for a usage error, 130 after Ctrl-C.
    """
    with ExitStack() as stack:
        with _wrong_usage():
            # A mistake in the config is reported once, not for each row.
            load_settings()
            model = _model(name)
            defaults = rows.Defaults(
                model.model_id,
                model.Options,
                system,
                read_schema(schema),
                read_options(model, options),
            )
            form = form or ("jsonl" if file == STDIN else format_of(Path(file)))
            all_rows = rows.read(stack.enter_context(_open(file)), form, defaults)
            batch_rows: Iterator[rows.Row | rows.BadRow] = islice(all_rows, number)
            journal = None
            if output and (output.is_file() or not output.exists()):
                if file != STDIN and output.exists() and output.samefile(file):
                    raise RequestError(f"{output} is the input")
                journal = Journal(output, restart=restart)
                stack.callback(journal.close)
                batch_rows = journal.check(batch_rows)
                if dask is not None:
                    batch_rows, is_work_left = journal.look_for_work(batch_rows)
                    dask = dask if is_work_left else None
            answers = stack.enter_context(_open_output(output, restart=restart))
        progress = Progress(_count(file, form, number))
        runs: list[BatchRun] = []
        cluster = stack.enter_context(_cluster(dask, runs, progress)) if dask is not None else None
        stack.callback(progress.close)
        local = rows_ahead(cluster) if cluster else LOCAL_CONCURRENCY
        settings = BatchSettings(
            limit(model, concurrency, rate, wait.total_seconds(), progress.print, local),
            concurrency,
            not unordered,
            strict,
            not no_log,
            cluster,
        )
        batch = BatchRun(settings, answers, journal, progress)
        runs.append(batch)
        stack.enter_context(_warnings_once())
        asyncio.run(batch.run(batch_rows))
    if batch.interrupted:
        why = "the Dask scheduler is gone; " if batch.has_lost_cluster else ""
        if journal:
            echo_note(f"Stopped: {why}run the same command again to continue")
        else:
            echo_note(f"Stopped: {why}only a batch with --output can be continued")
        context.exit(1 if batch.has_lost_cluster else 130)
    if progress.failed:
        context.exit(1)


@contextmanager
def _cluster(address: str, runs: list[BatchRun], progress: Progress) -> Iterator[ClusterEngine]:
    """The engine of a Dask cluster; without its scheduler, the runs stop."""
    from ..cluster.connection import connected

    def lose() -> None:
        for run in runs:
            run.lose_cluster()

    with ExitStack() as stack:
        with _wrong_usage():
            cluster = stack.enter_context(connected(address, lose, progress.print))
        yield cluster


@contextmanager
def _wrong_usage() -> Iterator[None]:
    """Turn errors before the first row into usage errors."""
    try:
        yield
    except (TieredError, OSError) as error:
        message = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
        raise WrongUsage(str(message)) from error


def _model(name: str) -> AsyncModel:
    try:
        model = get_async_model(name)
    except llm.UnknownModelError as error:
        raise RequestError(error.args[0], fix="llm models") from None
    return model


@contextmanager
def _open(file: str) -> Iterator[BinaryIO]:
    if file != STDIN:
        with Path(file).open("rb") as stream:
            yield stream
        return
    if sys.stdin is None:
        raise RequestError("standard input is closed")
    stdin = sys.stdin.buffer
    # With sys.stdin's own buffer, Python could not exit while a thread waits for input.
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
    """The number of rows if a progress bar needs it, else the limit."""
    if file == STDIN or sys.stderr is None or not sys.stderr.isatty():
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
        # Without standard error, tqdm would take standard output.
        with logging_redirect_tqdm([logger]) if sys.stderr else nullcontext():
            yield
    finally:
        logger.removeFilter(once)
