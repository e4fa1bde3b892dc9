"""`llm tiered stop`: end the engine and the server in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..errors import TieredError
from .output import echo_note
from .ps import PATIENCE
from .serve import describe

if TYPE_CHECKING:
    from collections.abc import Callable


@click.command("stop")
@click.option("--now", is_flag=True, help="Do not wait until running answers are complete")
def command(now: bool) -> None:
    """End the engine and the server in the background.

    Running answers may end first, for up to half a minute. A server in a terminal goes on: Ctrl-C
    ends it. The next prompt to a local model starts a new engine.
    """
    from ..server import instances

    def on_wait() -> None:
        echo_note("waiting until it ends" + ("" if now else "; with --now it ends running answers"))

    servers = instances.running()
    in_background = [server for server in servers if server.kind != "terminal"]
    # The servers first: they would start a new engine.
    for server in in_background:
        if instances.end(server, now=now, on_wait=on_wait):
            click.echo(f"stopped: the server at {describe(server)}")
        else:
            click.echo(f"killed: the server at {describe(server)}, which did not end")
    if not (_stop_engine(now, on_wait) or servers):
        echo_note("nothing runs in the background")
    for server in servers:
        if server.kind == "terminal":
            echo_note(f"a server in a terminal goes on: {describe(server)}; Ctrl-C ends it")


def _stop_engine(now: bool, on_wait: Callable[[], None]) -> bool:
    """End the engine, and return whether there is one."""
    from ..mlx.process import client
    from ..mlx.process.lease import has_engines

    if not has_engines():
        return False
    try:
        engine = client.look(PATIENCE)
    except client.NoAnswer as error:
        if not now:
            raise TieredError(
                "the engine does not answer, so it can't be asked to end",
                fix="llm tiered stop --now kills it",
            ) from None
        error.connection.kill()
        click.echo("killed: the engine, which did not answer")
        return True
    if engine is None:
        return False
    pid = engine.status.get("pid")
    if client.end(engine, now=now, on_wait=on_wait):
        click.echo(f"stopped: the engine (process {pid})")
    else:
        click.echo(f"killed: the engine (process {pid}), which did not end")
    return True
