"""Who may ask: keys, the Host and the Origin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.errors import RequestError
from llm_tiered.server.access import Access, Key, is_loopback, key_name, read_keys
from llm_tiered.server.failure import ApiError

if TYPE_CHECKING:
    from tests.server.conftest import Client

SECRET = "a secret of nobody"


def scope(**headers: str) -> dict[str, Any]:
    """A request with these headers."""
    raw = {"host": "127.0.0.1:8484"} | headers
    return {"headers": [(name.encode(), value.encode()) for name, value in raw.items()]}


def status(access: Access, **headers: str) -> int:
    """The status for a request with these headers."""
    try:
        access.check(scope(**headers))
    except ApiError as error:
        return error.status
    return 200


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *[(host, 200) for host in ("localhost", "LOCALHOST.:80", "127.0.0.1", "127.1.2.3:8484")],
        *[(host, 200) for host in ("[::1]:8484", "box.example:8484", "BOX.example")],
        *[(host, 403) for host in ("evil.example", "localhost.evil.example:8484", "10.0.0.1")],
        *[(host, 403) for host in ("", "127.0.0.1.evil.example", "[::1", "[::2]:80", "2130706433")],
    ],
)
def test_host(host: str, expected: int) -> None:
    """A request has to be for a loopback name, or for the host that the user has named."""
    assert status(Access(("box.example", "10.9.9.9")), host=host) == expected


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        *[(origin, 200) for origin in ("http://127.0.0.1:8484", "https://127.0.0.1:8484")],
        *[(origin, 403) for origin in ("null", "", "http://evil.example", "http://localhost:8484")],
        *[(origin, 403) for origin in ("http://127.0.0.1:3000", "file://", "http://[")],
    ],
)
def test_origin(origin: str, expected: int) -> None:
    """Web pages may not ask, unless they come from this server."""
    assert status(Access(), origin=origin) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        *[(f"Bearer {SECRET}", 200), (f"bearer  {SECRET}", 200), ("Bearer other-key", 200)],
        *[("", 401), (SECRET, 401), ("Bearer", 401), (f"Basic {SECRET}", 401)],
        *[(f"Bearer {SECRET}x", 401), ("Bearer \u00e4", 401)],
    ],
)
def test_keys(header: str, expected: int) -> None:
    """With keys, a request needs one of them."""
    access = Access(keys=(Key("laptop", SECRET), Key("phone", "other-key")))
    assert status(access, authorization=header) == expected


def test_name_of_the_key() -> None:
    """The log gets the name of a key."""
    request = scope(authorization=f"Bearer {SECRET}")
    Access(keys=(Key("laptop", SECRET),)).check(request)
    assert key_name(request) == "laptop"
    assert key_name(scope()) == "-"


def test_everywhere() -> None:
    """A server that listens everywhere answers to any name, but never without a key."""
    access = Access(("0.0.0.0",), (Key("laptop", SECRET),), everywhere=True)
    assert status(access, host="llm:8484", authorization=f"Bearer {SECRET}") == 200
    assert status(access, host="llm:8484") == 401
    assert status(Access(("0.0.0.0",), everywhere=True), host="llm:8484") == 403


@pytest.mark.parametrize(
    ("text", "name", "secret"),
    [
        ("laptop=long-enough", "laptop", "long-enough"),
        ("long-enough", "key1", "long-enough"),
        ("bG9uZyBlbm91Z2g=", "key1", "bG9uZyBlbm91Z2g="),
        ("bG9uZyBlbm91Z2g==", "key1", "bG9uZyBlbm91Z2g=="),
        ("served", "served", "kept in keys.json"),
    ],
)
def test_read_keys(text: str, name: str, secret: str) -> None:
    """A key may have a name, or be the name of a stored one; = at its end is part of it."""
    assert read_keys((text,), {"served": "kept in keys.json"}) == (Key(name, secret),)


@pytest.mark.parametrize("text", ["short", "laptop=short", "", "long\nenough"])
def test_weak_keys(text: str) -> None:
    """A key that could be guessed, or not be sent, is refused, and not shown."""
    with pytest.raises(RequestError, match="at least 8 characters") as caught:
        read_keys((text,), {})
    assert "short" not in str(caught.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "[::1]", "127.9.9.9"])
def test_loopback(host: str) -> None:
    """These are this machine alone."""
    assert is_loopback(host)
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("example.com")


def test_over_http(client: Client) -> None:
    """The server refuses such requests before it reads them, with OpenAI's errors and no CORS."""
    assert client.error({"host": "evil.example"})[:2] == (403, "forbidden_host")
    response = client.post({"origin": "http://evil.example"})
    assert response.json()["error"]["code"] == "forbidden_origin"
    assert not [name for name in response.headers if name.startswith("access-control")]
