"""`llm tiered stop`: end the server in the background."""

from __future__ import annotations

import click

from .output import echo_note
from .serve import describe


@click.command("stop")
@click.option("--now", is_flag=True, help="Do not wait until running answers are complete")
def command(now: bool) -> None:
    """End the server in the background.

    Running answers may end first, for up to half a minute. A server in a terminal goes on: Ctrl-C
    ends it.
    """
    from ..server import instances

    servers = instances.running()
    in_background = [server for server in servers if server.kind != "terminal"]
    for server in in_background:
        if instances.end(server, now=now):
            click.echo(f"stopped: the server {describe(server)}")
        else:
            click.echo(f"killed: the server {describe(server)}, which did not end")
    for server in servers:
        if server.kind == "terminal":
            echo_note(f"a server in a terminal goes on {describe(server)}: Ctrl-C ends it")
    if not in_background:
        echo_note("nothing runs in the background")
