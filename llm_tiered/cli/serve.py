"""`llm tiered serve`: an OpenAI-compatible endpoint on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..errors import RequestError
from ..wording import moment
from .lookup import gemini_key_source
from .options import WrongUsage
from .output import echo_note

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from ..server.access import Key
    from ..server.instances import Instance

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8484


@click.command("serve")
@click.option("--host", default=DEFAULT_HOST, show_default=True, help="Address to listen on")
@click.option(
    "-p",
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port of the server; 0 is any free one",
)
@click.option(
    "given",
    "--key",
    multiple=True,
    metavar="[NAME=]KEY",
    help="API key that clients have to send, or the name of a stored one; may be repeated",
)
@click.option("--background", is_flag=True, help="Serve in the background")
@click.option("--install", is_flag=True, help="Make it a service that starts when you log in")
@click.option("--uninstall", is_flag=True, help="Remove the service again")
def command(  # noqa: PLR0913, PLR0917 - each is an option
    host: str,
    port: int,
    given: tuple[str, ...],
    background: bool,
    install: bool,
    uninstall: bool,
) -> None:
    """Serve `tiered` and the local models to clients of OpenAI's API.

    The base URL for clients is printed first. Without a key, only this machine can ask. Ctrl-C
    ends the server once the running answers are complete, and a second one ends them too. A server
    in the background is ended by `llm tiered stop`.

    --install writes a unit of systemd or an agent of launchd, and shows the commands that start it.
    """
    from ..config.settings import load_settings
    from ..router.keys import stored_keys
    from ..server.access import read_keys
    from ..server.process import is_service

    if background + install + uninstall > 1:
        raise WrongUsage("only one of --background, --install and --uninstall is possible")
    if uninstall:
        _uninstall()
        return
    load_settings()
    stored = stored_keys()
    keys = read_keys(given, stored)
    if install or is_service():
        _check_stored(given, stored)
    if install:
        _install(host, port, keys)
    elif background:
        _serve_in_background(host, port, keys)
    else:
        _serve(host, port, keys)


def _check_stored(given: tuple[str, ...], stored: Mapping[str, str]) -> None:
    """Raise RequestError if a key is not stored: everybody can read what a service is called with.

    Without this, the name of a key that is not stored any more would be a key itself.
    """
    for number, name in enumerate(given, 1):
        if name not in stored:
            # It is not repeated, because it may be a secret.
            raise RequestError(
                f"a service takes only stored keys, and --key number {number} names none",
                fix="llm keys set NAME, then --key NAME",
            )


def _serve(host: str, port: int, keys: tuple[Key, ...]) -> None:
    from ..server.access import access_rules
    from ..server.process import base_url, is_service, serve

    with _listen(host, port) as listener:
        access = access_rules(host, listener.getsockname()[0], keys)
        click.echo(base_url(listener))
        serve(listener, access, kind="service" if is_service() else "terminal")


def _serve_in_background(host: str, port: int, keys: tuple[Key, ...]) -> None:
    from ..server import background
    from ..server.access import access_rules

    with background.alone():
        running = background.current()
        if running:
            same = (running.host, running.keys) == (host, tuple(key.name for key in keys))
            if not same or port not in (0, running.port):
                raise RequestError(
                    f"another server runs in the background at {describe(running)}",
                    fix="llm tiered stop ends it",
                )
            click.echo(running.url)
            echo_note(f"it is running already at {describe(running)}")
            return
        listener = _listen(host, port)
        with listener:
            access_rules(host, listener.getsockname()[0], keys)
            background.start(listener, host, keys)
        started = background.current()
    if started:
        click.echo(started.url)
        echo_note(f"it runs in the background (process {started.pid}) until: llm tiered stop")
        echo_note(f"its log: {started.log}")


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there. Raises RequestError, and says if it is our own server."""
    from ..server.instances import running
    from ..server.running import listen

    try:
        return listen(host, port)
    except RequestError as error:
        for server in running():
            if port and server.port == port:
                raise RequestError(
                    f"a server of llm tiered uses port {port} already: {describe(server)}",
                    fix=error.fix,
                ) from None
        raise


def _install(host: str, port: int, keys: tuple[Key, ...]) -> None:
    from ..gemini import KEY_VARIABLE, SET_KEY
    from ..server import background, units
    from ..server.access import access_rules
    from ..server.running import resolve

    if not port:
        raise RequestError("a service needs the same port each time", fix="--port NUMBER")
    access_rules(host, resolve(host)[1], keys)
    arguments = ["--host", host, "--port", str(port)]
    for key in keys:
        arguments += ["--key", key.name]
    service = units.service(arguments)
    service.install()
    running = background.current()
    before = ("llm tiered stop",) if running and running.kind == "background" else ()
    click.echo(f"written: {service.path}")
    click.echo("to start it now, and whenever you log in:")
    echo_commands(*before, *service.enable)
    click.echo("to see its log:")
    echo_commands(service.log)
    click.echo("to undo this:")
    echo_commands(*service.disable, "llm tiered serve --uninstall")
    if gemini_key_source() == KEY_VARIABLE:
        echo_note(f"the service does not get {KEY_VARIABLE}: store the key ({SET_KEY})")


def _uninstall() -> None:
    from ..server import units

    service = units.service([])
    if service.uninstall():
        click.echo(f"removed: {service.path}")
        if not service.mark:
            click.echo("if it still runs:")
            echo_commands(*service.disable)
    else:
        echo_note(f"no service is installed: there is no {service.path}")


def echo_commands(*lines: str) -> None:
    """Print commands to type."""
    for line in lines:
        click.echo(f"  {line}")


def describe(server: Instance) -> str:
    """Return where a server is, since when it runs and which process it is, in words."""
    return f"{server.url} since {moment(server.started)} (process {server.pid})"
