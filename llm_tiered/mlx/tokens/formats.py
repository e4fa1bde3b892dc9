"""The formats of JSON Schema that a mask holds, as patterns.

A check does not hold them: `format` is an annotation, and the cloud's answers are as they come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# Dates that exist: February has 29 days in leap years only, and Python knows no year 0.
_YEAR = "(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_LEAP_YEAR = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DAY = (
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_DATE = f"(?:{_YEAR}-{_DAY}|{_LEAP_YEAR}-02-29)"
# The offset is optional, although RFC 3339 wants it. The schema of Python's NaiveDatetime says
# "date-time" too, and refuses one; so the model decides.
_TIME = (
    r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?"
    "(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])?"
)
# With few enough digits for Python's timedelta, and its fractions of a second.
_N = "[0-9]{1,6}"
_DAYS = f"(?:{_N}Y(?:{_N}M)?(?:{_N}D)?|{_N}M(?:{_N}D)?|{_N}D)"
_SECONDS = rf"{_N}(?:\.[0-9]{{1,6}})?S"
_HOURS = f"T(?:{_N}H(?:{_N}M)?(?:{_SECONDS})?|{_N}M(?:{_SECONDS})?|{_SECONDS})"


def _uuid(version: int) -> str:
    digits = "[0-9a-f]"
    return (
        f"^{digits}{{8}}-{digits}{{4}}-{version}{digits}{{3}}-[89ab]{digits}{{3}}-{digits}{{12}}$"
    )


_PATTERNS = {
    "date": f"^{_DATE}$",
    "time": f"^{_TIME}$",
    "date-time": f"^{_DATE}T{_TIME}$",
    "duration": f"^P(?:{_DAYS}(?:{_HOURS})?|{_HOURS}|{_N}W)$",
    **{f"uuid{version}": _uuid(version) for version in (1, 3, 4, 5, 6, 7, 8)},
}
# Those that llguidance has patterns of its own for.
_BUILT_IN = ("email", "hostname", "ipv4", "ipv6", "uri", "uuid")


_ANY_UUID = "^[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$"


def as_pattern(name: Any) -> str | None:
    """Return the pattern of a format that names of properties may have, or None."""
    return _ANY_UUID if name == "uuid" else _PATTERNS.get(name)


def as_keyword(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword that makes a mask hold a schema's format, or nothing if none does."""
    name = schema.get("format")
    if name in _PATTERNS:
        return {"pattern": _PATTERNS[name]}
    return {"format": name} if name in _BUILT_IN else {}
