"""Functions of other packages, run with HTTP clients that raise an error with its whole body.

llm-gemini reads an answer of any status as a stream of JSON, so that an error comes out as its
message alone, or as none if it is not in a list or not JSON: the status, the time to wait and the
name of the quota are lost. It makes its own HTTP client, with no way to change it from outside.
So the same code runs with clients that raise httpx.HTTPStatusError before the body is parsed.
Everything else that uses llm-gemini or httpx in this process notices nothing.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from functools import cache
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx


@cache
def with_strict_clients(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with clients that raise for an error status as its global `httpx`.

    Anything that is not a plain function, or does not use that name, is returned unchanged.
    """
    if not isinstance(function, FunctionType) or "httpx" not in function.__code__.co_names:
        return function
    names = function.__globals__ | {"httpx": _StrictHttpx()}
    return FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )


class _StrictHttpx:
    """The module httpx, with clients that read an error to its end and raise HTTPStatusError."""

    def __getattr__(self, name: str) -> Any:
        import httpx

        return getattr(httpx, name)

    def Client(self, **settings: Any) -> httpx.Client:  # noqa: N802 - as httpx calls it
        """Return a client."""
        import httpx

        return httpx.Client(**settings, event_hooks={"response": [_check]})

    def AsyncClient(self, **settings: Any) -> httpx.AsyncClient:  # noqa: N802 - as above
        """Return a client for asyncio."""
        import httpx

        return httpx.AsyncClient(**settings, event_hooks={"response": [_check_async]})

    @contextmanager
    def stream(self, method: str, url: str, **settings: Any) -> Iterator[httpx.Response]:
        """Stream the response to a request."""
        with self.Client() as client, client.stream(method, url, **settings) as response:
            yield response


def _check(response: httpx.Response) -> None:
    import httpx

    if not response.is_success:
        # The status says enough if the body breaks off.
        with suppress(httpx.HTTPError):
            response.read()
        response.raise_for_status()


async def _check_async(response: httpx.Response) -> None:
    import httpx

    if not response.is_success:
        with suppress(httpx.HTTPError):
            await response.aread()
        response.raise_for_status()
