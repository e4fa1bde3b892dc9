"""OpenAI's clients, one for each server and key, kept so that connections are used again."""

from __future__ import annotations

import asyncio
import atexit
import ipaddress
import socket
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies
from weakref import WeakKeyDictionary

from ..config.addresses import is_loopback
from ..errors import ModelUnavailable
from ..forks import after_fork

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import openai

    from .endpoint import Endpoint

# Seconds that a server has to accept a connection, and to receive the request.
CONNECT_WITHIN, SEND_WITHIN = 5.0, 60.0

# Idle connections that are kept for each server.
KEPT = 32

_clients: dict[tuple[Endpoint, str | None], openai.OpenAI] = {}
_async_clients: WeakKeyDictionary[Any, dict[tuple[Endpoint, str | None], _Kept]]
_async_clients = WeakKeyDictionary()

# Clients of the process that this one was forked from. They are kept, because to end them could
# wait for a lock that a thread of that process held.
_of_parent: list[Any] = []


def _after_fork() -> None:
    global _clients, _async_clients
    _of_parent.extend([_clients, _async_clients])
    for client in _clients.values():
        atexit.unregister(client.close)
    _clients, _async_clients = {}, WeakKeyDictionary()


after_fork(_after_fork)


class _Kept:
    """A client for asyncio, closed when its event loop shuts its generators down."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self.client = client
        self._closing = _close_at_end(client)

    async def begin(self) -> None:
        """Let the event loop know of the client."""
        await anext(self._closing)


async def _close_at_end(client: openai.AsyncOpenAI) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await client.close()


def client_for(endpoint: Endpoint, key: str | None) -> openai.OpenAI:
    """Return the client for a server, and a key if it wants one. Raises ModelUnavailable."""
    import openai

    check_here(endpoint)
    client = _clients.get((endpoint, key))
    if client is None:
        http = openai.DefaultHttpxClient(**http_settings(endpoint))
        client = openai.OpenAI(**_settings(endpoint, key), http_client=http)
        _without_environment(client)
        atexit.register(client.close)
        _clients[endpoint, key] = client
    return client


async def async_client_for(endpoint: Endpoint, key: str | None) -> openai.AsyncOpenAI:
    """Return the client of this event loop for a server. Raises ModelUnavailable."""
    import openai

    check_here(endpoint)
    clients = _async_clients.setdefault(asyncio.get_running_loop(), {})
    kept = clients.get((endpoint, key))
    if kept is None:
        http = openai.DefaultAsyncHttpxClient(**http_settings(endpoint, asynchronous=True))
        client = openai.AsyncOpenAI(**_settings(endpoint, key), http_client=http)
        _without_environment(client)
        kept = clients[endpoint, key] = _Kept(client)
        await kept.begin()
    return kept.client


def options(key: str | None, silence: float, headers: dict[str, str]) -> dict[str, Any]:
    """Return the library's options for a request to a server that may be silent for so long.

    `silence` is in seconds. Without a key, the header that the library insists on is left out.
    """
    import openai

    limits = openai.Timeout(None, connect=CONNECT_WITHIN, read=silence, write=SEND_WITHIN)
    without = {} if key else {"Authorization": openai.Omit()}
    return {"timeout": limits, "headers": headers | without}


def check_here(endpoint: Endpoint) -> None:
    """Raise ModelUnavailable if a server that has to be on this machine is not.

    A name is resolved each time, because its addresses may change.
    """
    if not endpoint.here or endpoint.socket:
        return
    host = urlsplit(endpoint.base_url).hostname or ""
    elsewhere = [number for number in _numbers(host) if not is_loopback(number)]
    if elsewhere:
        raise ModelUnavailable(
            f"{host} is {elsewhere[0]}, which is not this machine",
            fix="place: own in the tier, if it is another one of yours",
        )


def _numbers(host: str) -> list[str]:
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    try:
        entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        # Connecting will fail and say so.
        return []
    return [str(address[0]) for *_, address in entries]


def _settings(endpoint: Endpoint, key: str | None) -> dict[str, Any]:
    return {"base_url": endpoint.base_url, "api_key": key or "none", "max_retries": 0}


def _without_environment(client: Any) -> None:
    """Remove what the library takes from OPENAI_* variables, which is meant for OpenAI alone."""
    client.organization = client.project = None
    client._custom_headers = {}


def http_settings(endpoint: Endpoint, *, asynchronous: bool = False) -> dict[str, Any]:
    """Return the settings of an HTTP client for a server."""
    import httpx2

    # Prompts go where the config says, and nowhere else.
    settings: dict[str, Any] = {
        "follow_redirects": False,
        "limits": httpx2.Limits(max_connections=None, max_keepalive_connections=KEPT),
    }
    is_plain = endpoint.base_url.startswith("http:")
    # Where the name means nothing here, a proxy might know it, and that is another machine. And it
    # could read what is not encrypted.
    direct = (
        endpoint.here
        or endpoint.socket is not None
        or _is_loopback_name(endpoint)
        or (endpoint.own and is_plain)
    )
    if is_plain and (direct or not getproxies()):
        # Nothing is encrypted there, and reading the machine's certificates takes 40 ms.
        settings["verify"] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if direct:
        # A transport of its own keeps a client from a proxy, which would connect to itself.
        kind = httpx2.AsyncHTTPTransport if asynchronous else httpx2.HTTPTransport
        verify = settings.pop("verify", True)
        limits = settings.pop("limits")
        settings["transport"] = kind(uds=endpoint.socket, verify=verify, limits=limits)
    return settings


def _is_loopback_name(endpoint: Endpoint) -> bool:
    numbers = _numbers(urlsplit(endpoint.base_url).hostname or "")
    return bool(numbers) and all(map(is_loopback, numbers))
