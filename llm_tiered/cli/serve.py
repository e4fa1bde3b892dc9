"""`llm tiered serve`: an OpenAI-compatible endpoint on this machine."""

from __future__ import annotations

import ipaddress
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on")
@click.option(
    "-p",
    "--port",
    type=click.IntRange(0, 65535),
    default=8484,
    show_default=True,
    help="Port of the server; 0 is any free one",
)
@click.option(
    "keys",
    "--key",
    multiple=True,
    metavar="[NAME=]KEY",
    help="API key that clients have to send, or the name of a stored one; may be repeated",
)
def command(host: str, port: int, keys: tuple[str, ...]) -> None:
    """Serve `tiered` and the local models to clients of OpenAI's API.

    The base URL for clients is printed first. Without a key, only this machine can ask. Ctrl-C
    ends the server once the running answers are complete, and a second one ends them too.
    """
    from ..config.settings import load_settings
    from ..errors import RequestError
    from ..router.keys import stored_keys
    from ..server.access import Access, is_loopback, read_keys
    from ..server.app import Endpoints
    from ..server.running import listen, run

    load_settings()
    accepted = read_keys(keys, stored_keys())
    with listen(host, port) as listener:
        address, number = listener.getsockname()[:2]
        if not is_loopback(address) and not accepted:
            raise RequestError(
                f"other machines can reach {host}, so clients need a key", fix="--key NAME=KEY"
            )
        shown = f"[{address}]" if ":" in address else address
        click.echo(f"http://{shown}:{number}/v1")
        everywhere = ipaddress.ip_address(address.partition("%")[0]).is_unspecified
        with _log_on_stderr():
            run(Endpoints(Access((host, address), accepted, everywhere)), listener)


@contextmanager
def _log_on_stderr() -> Iterator[None]:
    """Show requests and warnings, but not why models failed: that may quote a prompt or an answer.

    The client gets it, and llm's log.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    handler.addFilter(lambda record: record.module != "exchange")
    logger, own = logging.getLogger("llm_tiered"), logging.getLogger("llm_tiered.server")
    logger.addHandler(handler)
    logger.propagate = False
    own.setLevel(logging.INFO)
    # It warns of each client that leaves in the middle of an answer.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
