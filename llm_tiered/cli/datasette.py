"""`llm tiered datasette`: the log in the browser."""

from __future__ import annotations

import socket

import click

from ..errors import RequestError, TieredError
from ..log.database import has_requests, reading
from ..paths import log_path

HOST = "127.0.0.1"

# Milliseconds after which Datasette ends a query. Its default of one second is meant for public
# servers; a query over a large log takes longer.
SQL_TIME_LIMIT = 10_000


@click.command("datasette")
@click.option(
    "-p",
    "--port",
    type=click.IntRange(1, 65535),
    default=8001,
    show_default=True,
    help="Port of the server",
)
@click.option("open_", "--open", is_flag=True, help="Open the page in the browser")
def command(port: int, open_: bool) -> None:
    """Browse the log in Datasette: the costs, the savings and each request.

    This starts Datasette on llm's log, read-only and for this machine only. Ctrl-C ends it.
    """
    path = log_path()
    with reading(path) as database:
        if not has_requests(database):
            raise TieredError(f"{path} is not an llm log, or is a very old one", fix="llm logs")
    try:
        from datasette.cli import cli as datasette
    except ModuleNotFoundError:
        raise TieredError("Datasette is not installed", fix="llm install datasette") from None
    _check_free(port)
    page = f"http://{HOST}:{port}/{path.stem}/-/tiered"
    click.echo(page)
    if open_:
        click.launch(page)
    arguments = ["serve", str(path), "--host", HOST, "--port", str(port)]
    arguments += ["--setting", "sql_time_limit_ms", str(SQL_TIME_LIMIT)]
    datasette.main(arguments, standalone_mode=False)


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        # Like the server: a port that was in use a moment ago counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise RequestError(
                f"port {port} can't be used: {error.strerror}", fix=f"--port {port + 1}"
            ) from error
