"""An error of a request to a server → what it says about the server, for its other requests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Literal, TypeAlias

from ..errors import MissingModel, TieredError, causes_of

# down: it can't be reached, or is not such a server. silent: it took the request and sent nothing
# more. busy: it says when to ask again. passing: the next request may well be answered. model: it
# does not have the model, and may have others.
FaultKind: TypeAlias = Literal["down", "silent", "busy", "passing", "model"]

_BUSY = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
_NO_SUCH_API = {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.GONE}
_UNSUPPORTED = {
    *(HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED),
    HTTPStatus.LOOP_DETECTED,
}


@dataclass(frozen=True)
class Fault:
    """What is wrong with a server; `retry_after` are seconds, if it says so itself."""

    kind: FaultKind
    reason: str
    retry_after: float | None = None


# By the class names of an error and its causes, the most specific first; an empty reason means the
# error's own words. Names, because there are several HTTP libraries and importing them is slow.
_FAULTS: tuple[tuple[set[str], Fault | None], ...] = (
    ({"PoolTimeout"}, None),
    ({"ReadTimeout", "WriteTimeout"}, Fault("silent", "gave no answer in time")),
    ({"ConnectTimeout"}, Fault("down", "can't be reached in time")),
    ({"ConnectionRefusedError"}, Fault("down", "connection refused")),
    ({"ConnectError", "gaierror", "SSLError"}, Fault("down", "")),
    ({"TimeoutException", "TimeoutError"}, Fault("silent", "gave no answer in time")),
    ({"ModelUnavailable"}, Fault("down", "can't be used")),
    ({"TransportError", "ConnectionError"}, Fault("passing", "the connection broke")),
    ({"IncompleteAnswer"}, Fault("passing", "the answer ended early")),
)


def fault_of(error: BaseException) -> Fault | None:
    """Return what is wrong with the server, or None if another one would say the same."""
    if isinstance(error, MissingModel):
        return Fault("model", error.message)
    causes = [*causes_of(error)]
    for cause in causes:
        status = _status(cause)
        if status >= HTTPStatus.MULTIPLE_CHOICES:
            return _fault_of_status(status, cause)
    names = {kind.__name__ for cause in causes for kind in type(cause).__mro__}
    fault = next((fault for kinds, fault in _FAULTS if kinds & names), None)
    if fault and isinstance(error, TieredError):
        return replace(fault, reason=error.message)
    if fault and not fault.reason:
        return replace(fault, reason=f"can't be reached: {causes[-1] or type(causes[-1]).__name__}")
    return fault


def _status(error: BaseException) -> int:
    """The HTTP status, also of an error within a stream; 0 if there is none."""
    body = getattr(error, "body", None)
    code = body.get("code") if isinstance(body, dict) else None
    status = getattr(error, "status_code", code)
    return status if isinstance(status, int) else 0


def _fault_of_status(status: int, error: BaseException) -> Fault | None:
    reason = f"HTTP {status}"
    if status in _BUSY:
        wait = _retry_after(error)
        return Fault("passing" if wait is None else "busy", reason, wait)
    if status in _NO_SUCH_API or status < HTTPStatus.BAD_REQUEST:
        return Fault("down", reason)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and status not in _UNSUPPORTED:
        return Fault("passing", reason)
    return None


def _retry_after(error: BaseException) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    try:
        return max(0.0, float(headers.get("retry-after", "")))
    except ValueError:
        return None
