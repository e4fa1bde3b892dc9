"""Who may ask: the keys, and the names under which the server may be addressed.

Web pages can make a browser send requests to this machine: to a name of their own that they let
point here (DNS rebinding), or to the address itself. The first have a wrong Host, the others an
Origin.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..errors import RequestError
from .failure import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Scope

SHORTEST_KEY = 8

_NAMED = re.compile(r"([A-Za-z][A-Za-z0-9_.-]{0,31})=(.*[^=].*)", re.DOTALL)
_STATE = "tiered_key"


@dataclass(frozen=True)
class Key:
    """A key that clients may use; the name stands for it in the log."""

    name: str
    secret: str


def read_keys(given: tuple[str, ...], stored: Mapping[str, str]) -> tuple[Key, ...]:
    """Return the keys that `--key` gives: `secret`, `name=secret`, or the name of a stored one.

    Raises RequestError.
    """
    keys = []
    for at, text in enumerate(given, 1):
        match = _NAMED.fullmatch(text)
        if text in stored:
            key = Key(text, stored[text])
        elif match:
            key = Key(match[1], match[2])
        else:
            key = Key(f"key{at}", text)
        if len(key.secret) < SHORTEST_KEY or not key.secret.isprintable():
            raise RequestError(
                f"--key {key.name}: a key needs at least {SHORTEST_KEY} characters",
                fix="python3 -c 'import secrets; print(secrets.token_urlsafe())' makes one",
            )
        keys.append(key)
    return tuple(keys)


def is_loopback(host: str) -> bool:
    """Return whether this is a name or an address of this machine alone."""
    name = host.rstrip(".").lower()
    try:
        return name == "localhost" or ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Access:
    """The rules of one server. `names` are those of the address where it listens.

    A server that listens `everywhere` has names that nobody can list, but there is always a key.
    """

    names: tuple[str, ...] = ()
    keys: tuple[Key, ...] = ()
    everywhere: bool = False

    def check(self, scope: Scope, *, needs_key: bool = True) -> None:
        """Raise ApiError if a request is not allowed."""
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        address = headers.get("host", "")
        if not self._is_ours(address):
            message = f"the request is for another host ({address!r:.80})"
            raise ApiError(403, message, code="forbidden_host")
        origin = headers.get("origin")
        if origin is not None and _host_of(origin) != address.lower():
            message = "web pages of other sites may not ask (they sent an Origin header)"
            raise ApiError(403, message, code="forbidden_origin")
        if self.keys and needs_key:
            scope.setdefault("state", {})[_STATE] = self._key(headers.get("authorization", ""))

    def _key(self, header: str) -> str:
        scheme, _, secret = header.partition(" ")
        given = secret.strip().encode()
        # All of them are compared, so that the time says nothing.
        same = [key for key in self.keys if hmac.compare_digest(key.secret.encode(), given)]
        if scheme.lower() != "bearer" or not same:
            message = "the API key is missing" if not header else "the API key is wrong"
            headers = {"www-authenticate": "Bearer"}
            raise ApiError(401, message, code="invalid_api_key", headers=headers)
        return same[0].name

    def _is_ours(self, address: str) -> bool:
        try:
            name = urlsplit(f"//{address}").hostname or ""
        except ValueError:
            return False
        ours = is_loopback(name) or name in {each.strip("[]").lower() for each in self.names}
        return ours or (self.everywhere and bool(self.keys))


def access_rules(host: str, address: str, keys: tuple[Key, ...]) -> Access:
    """Return the rules of a server that listens at an address, which the user calls `host`.

    Raises RequestError if other machines could ask without a key.
    """
    if not is_loopback(address) and not keys:
        raise RequestError(
            f"other machines can reach {host}, so clients need a key", fix="--key NAME=KEY"
        )
    everywhere = ipaddress.ip_address(address.partition("%")[0]).is_unspecified
    return Access((host, address), keys, everywhere)


def key_name(scope: Scope) -> str:
    """Return the name of the key of a request, for the log."""
    return str(scope.get("state", {}).get(_STATE, "-"))


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None
