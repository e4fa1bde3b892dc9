"""The address of a server → the URL of its API."""

from __future__ import annotations

from dataclasses import dataclass

from ..config.addresses import UNIX

# The path of the API where an address has none: that of all common servers.
_PATH = "/v1"


@dataclass(frozen=True)
class Endpoint:
    """A server: its `address` as in the config, and the URL of its API.

    With `here`, it has to be on this machine; with `own`, it is another one of the user's.
    """

    address: str
    here: bool = False
    own: bool = False

    @property
    def socket(self) -> str | None:
        """The path of the server's Unix socket, if it listens on one."""
        return self.address.removeprefix(UNIX) if self.address.startswith(UNIX) else None

    @property
    def base_url(self) -> str:
        """The URL that the paths of the API are appended to."""
        if self.socket:
            return f"http://localhost{_PATH}"
        address = self.address.rstrip("/")
        _, _, rest = address.partition("://")
        return address if "/" in rest else f"{address}{_PATH}"
