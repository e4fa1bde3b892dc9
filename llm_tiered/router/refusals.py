"""An exception of any provider's library → what the service said: status, message, time to wait."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import llm

from .. import gemini

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Units of time, in seconds, as services write them.
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_AMOUNT = (
    r"\d+(?:\.\d+)?\s*"
    r"(?:ms|milliseconds?|d(?:ays?)?|h(?:ours?|rs?)?|m(?:in(?:ute)?s?)?|s(?:ec(?:ond)?s?)?)(?![a-z])"
)
_TOLD = re.compile(
    r"\b(?:retry(?:ing)?|try(?:ing)?(?: your request)? again|wait|resets?|retry-?delay)\b"
    rf"(?:\s+your\s+request)?[\s'\":=]*(?:\b(?:in|after|for|at\s+least)\b)?[\s'\":=-]*"
    rf"((?:{_AMOUNT}[\s,]*(?:and\s+)?)+)",
    re.IGNORECASE,
)
_TOLD_IN_SECONDS = re.compile(r"\bretry[-_ ]after\b\W{0,3}(\d+(?:\.\d+)?)\b", re.IGNORECASE)
_PIECE = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|mil|d|h|m|s)", re.IGNORECASE)

# How much of a message is read, and of a page that is not JSON, in characters.
_READ = 4000
_LONGEST = 200

# The longest time to wait that a service can mean, in seconds.
_YEAR = 366 * 86400.0

# From here on, a number of seconds or of milliseconds is a time since 1970.
_SINCE_1970 = (1e9, 1e12)


@dataclass(frozen=True)
class Refusal:
    """What a service said instead of an answer.

    `status` is the HTTP status, or None where the library does not hand it on. `names` are what
    the service calls the error, such as "RESOURCE_EXHAUSTED" or "insufficient_quota". After
    `retry_after` seconds the service will answer again, as it says itself.
    """

    message: str
    status: int | None = None
    names: tuple[str, ...] = ()
    retry_after: float | None = None

    @property
    def reason(self) -> str:
        """The message, or the name of the status if the service gave none."""
        if self.message:
            return self.message
        if self.status is None:
            return " ".join(self.names) or "the service gave no reason"
        try:
            return f"HTTP {self.status} {HTTPStatus(self.status).phrase}"
        except ValueError:
            return f"HTTP {self.status}"


def read(error: Exception, now: datetime | None = None) -> Refusal | None:
    """Return what the service said, or None if the error is not its answer.

    The libraries of most providers raise errors with a status, and with a `response` or at least
    the parts of it. llm-gemini raises ModelError with nothing but the message.
    """
    body: Any
    response = getattr(error, "response", None)
    headers = getattr(response, "headers", None) or getattr(error, "headers", None) or {}
    status = _status(error, response)
    event = gemini.error_in_stream(error)
    if event is not None:
        body = event
    elif isinstance(error, llm.ModelError):
        body = str(error)
    elif hasattr(error, "status_code") and isinstance(said := getattr(error, "error", None), str):
        # Ollama's library; within a stream there is no status.
        body = said
    elif status is None and not hasattr(error, "body"):
        return None
    else:
        details = getattr(error, "details", None)
        body = getattr(error, "body", None) or (details if isinstance(details, dict) else None)
        body = body or _content(response) or getattr(error, "message", "")
    return _refusal(body, status, headers, now or datetime.now(timezone.utc))


def beginning(message: str) -> str:
    """Return as much of a message as is worth reading; a service may send a whole page."""
    return re.sub(r"\s{2,}", " ", message[: 10 * _READ])[:_READ]


def _refusal(body: Any, status: int | None, headers: Mapping[str, str], now: datetime) -> Refusal:
    said = _parse(body)
    fields = _fields(said)
    message = beginning(_message(fields) if fields else _plain(said, status))
    names = [str(name) for key in ("status", "type", "code") if (name := fields.get(key))]
    names += gemini.error_names(fields)
    # OpenRouter puts what the service behind it said into the body.
    metadata = fields.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    if isinstance(raw := metadata.get("raw"), str) and raw not in message:
        message = beginning(f"{message}: {raw}")
    told = [gemini.retry_delay(fields), _told_in(message), *_told_in_headers(headers, now)]
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        told += [*_reset(headers, now), *_reset(metadata.get("headers"), now)]
    seconds = [min(each, _YEAR) for each in told if each is not None and math.isfinite(each)]
    if status == HTTPStatus.OK:
        # The stream began well, and then there was an error in it.
        status = None
    code = fields.get("code")
    if status is None and isinstance(code, int):
        status = code
    return Refusal(message, status, tuple(names), max(0.0, *seconds) if seconds else None)


def _status(error: Exception, response: Any) -> int | None:
    for each in (error, response):
        for name in ("status_code", "status", "code"):
            status = getattr(each, name, None)
            if isinstance(status, int) and HTTPStatus.OK <= status < 600:
                return int(status)
    return None


def _content(response: Any) -> Any:
    """The body of the response; nothing if it was not read before the connection was closed."""
    try:
        return getattr(response, "content", None)
    except Exception:
        return None


def _parse(body: Any) -> Any:
    if isinstance(body, bytes):
        body = body.decode("utf-8", "replace")
    if not isinstance(body, str):
        return body
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return body
    return value if isinstance(value, (dict, list)) else body


def _fields(said: Any) -> dict[str, Any]:
    """The object that describes the error, whatever it is wrapped in."""
    if isinstance(said, list):
        return next((fields for each in said if (fields := _fields(each))), {})
    if not isinstance(said, dict):
        return {}
    for key in ("error", "detail"):
        inner = said.get(key)
        if isinstance(inner, (dict, list)) and (fields := _fields(inner)):
            return fields
        if isinstance(inner, str):
            return said | {"message": said.get("message") or inner}
    return said


def _message(fields: Mapping[str, Any]) -> str:
    for key in ("message", "msg", "detail", "error_description", "title"):
        if isinstance(fields.get(key), str) and fields[key].strip():
            return str(fields[key]).strip()
    return ""


def _plain(said: Any, status: int | None) -> str:
    """The text of a body that is not JSON, such as the page of a proxy."""
    if not isinstance(said, str):
        return ""
    page = said[: 10 * _READ].strip()
    if not re.match(r"<(?:!doctype|html|\?xml|head|title)", page, re.IGNORECASE):
        return page
    title = re.search(r"<title>(.*?)</title>", page, re.IGNORECASE | re.DOTALL)
    text = title[1] if title else re.sub(r"(?s)<(script|style).*?</\1>|<[^>]*>", " ", page)
    text = " ".join(text.split())[:_LONGEST]
    return f"HTTP {status}: {text}" if status and text else text


def _told_in(message: str) -> float | None:
    """The seconds that a message tells, such as "Please retry in 1m3.5s"."""
    seconds = [_seconds(match[1]) for match in _TOLD.finditer(message)]
    seconds += [float(match[1]) for match in _TOLD_IN_SECONDS.finditer(message)]
    return max(seconds) if seconds else None


def _seconds(duration: str) -> float:
    units = _SECONDS | {"mil": 0.001}
    return sum(float(number) * units[unit.lower()] for number, unit in _PIECE.findall(duration))


def _told_in_headers(headers: Mapping[str, str], now: datetime) -> Iterator[float]:
    for name, factor in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name) or headers.get(name.title())
        if value is None:
            continue
        try:
            yield float(value) * factor
        except ValueError:
            yield from _seconds_until(value, now)


def _reset(headers: Any, now: datetime) -> Iterator[float]:
    """The seconds until the time at which a limit ends; a duration is told elsewhere, too."""
    if not hasattr(headers, "items"):
        return
    for name, value in headers.items():
        if str(name).lower() != "x-ratelimit-reset":
            continue
        try:
            then = float(value)
        except (TypeError, ValueError):
            continue
        seconds, milliseconds = _SINCE_1970
        if then >= seconds:
            yield (then / 1000 if then >= milliseconds else then) - now.timestamp()


def _seconds_until(date: str, now: datetime) -> Iterator[float]:
    """The seconds until an HTTP date; nothing if it is none."""
    try:
        then = parsedate_to_datetime(date)
    except ValueError:
        return
    yield (then.replace(tzinfo=then.tzinfo or timezone.utc) - now).total_seconds()
