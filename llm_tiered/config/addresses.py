"""The addresses of servers in the config: what is allowed, and which are on this machine."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .values import Words

if TYPE_CHECKING:
    from urllib.parse import SplitResult

ADDRESSES = Words("an address such as http://gpu-box:8000/v1, or a list of them")

UNIX = "unix://"

# What servers print when they listen on all addresses; as a destination, it is not portable.
_ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - nothing listens here


def parse_addresses(value: Any) -> tuple[str, ...] | None:
    """Return the addresses of a tier's servers as the config has them. Raises ValueError."""
    if value is None:
        return None
    entries = list(value) if isinstance(value, (list, tuple)) else [value]
    if not entries:
        raise ValueError(f"found {value!r}, expected {ADDRESSES.text}")
    addresses = tuple(_address(entry) for entry in entries)
    if twice := [each for each in addresses if addresses.count(each) > 1]:
        raise ValueError(f"{twice[0]} is in the list twice")
    return addresses


def is_here(address: str) -> bool:
    """Return whether an address is known to be on this machine: a Unix socket or loopback.

    Names are not looked up: any name other than localhost counts as elsewhere.
    """
    if address.startswith(UNIX):
        return True
    host = urlsplit(address).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return is_loopback(host)
    except ValueError:
        return False


def is_loopback(number: str) -> bool:
    """Return whether an IP address is loopback, also as IPv4 in IPv6. Raises ValueError."""
    address = ipaddress.ip_address(number.partition("%")[0])
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def runs_in_ollamas_cloud(model: str) -> bool:
    """Return whether a model's name says that Ollama sends its prompts to its own cloud.

    Examples are gpt-oss:120b-cloud and glm-4.6:cloud (https://docs.ollama.com/cloud).
    """
    return re.search(r"[:-]cloud$", model, re.IGNORECASE) is not None


def _address(entry: Any) -> str:
    wrong = f"found {entry!r}, expected {ADDRESSES.text}"
    if not isinstance(entry, str):
        raise ValueError(wrong)
    address = entry.strip().rstrip("/")
    _check_secrets(address)
    if re.search(r"\s", address) or not address.isprintable() or address.endswith(":"):
        raise ValueError(wrong)
    if address.startswith(UNIX):
        if not address.removeprefix(UNIX).startswith("/"):
            raise ValueError(f"found {entry!r}, expected a path such as unix:///run/model.sock")
        return address
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"found {entry!r}: {str(error)[:1].lower()}{str(error)[1:]}") from None
    if "://" not in address:
        raise ValueError(f"found {entry!r}, which has no scheme; did you mean http://{address}?")
    if parts.scheme not in ("http", "https") or not _is_name(parts.hostname) or port == 0:
        raise ValueError(wrong)
    _check_parts(entry, parts)
    return address


def _check_secrets(address: str) -> None:
    _, has_name, host = address.rpartition("://")[2].partition("/")[0].rpartition("@")
    if has_name and not address.startswith(UNIX):
        # The entry itself would show the password, also where it has another mistake.
        raise ValueError(
            f"the address of {host} has a name or password in it; "
            "store it with llm keys set, and name it in key"
        )


def _is_name(host: str | None) -> bool:
    try:
        return bool(host and host.encode("idna"))
    except UnicodeError:
        return False


def _check_parts(entry: str, parts: SplitResult) -> None:
    if parts.query or parts.fragment:
        # What comes after it may be a key.
        base = re.split(r"[?#]", entry)[0]
        raise ValueError(f"found more after {base!r}, expected an address without ? and #")
    if parts.path.endswith("/chat/completions"):
        base = entry.strip().rstrip("/").removesuffix("/chat/completions")
        raise ValueError(f"found {entry!r}, expected the address before that: {base}")
    if parts.hostname in _ANY_ADDRESS:
        raise ValueError(
            f"found {entry!r}, where servers only listen; for this machine write 127.0.0.1"
        )
