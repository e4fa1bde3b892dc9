"""An exception → the problem: what to tell the user, and whether a retry may help."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from http import HTTPStatus
from typing import TYPE_CHECKING

import llm
from pydantic import ValidationError

from .. import gemini, openai_plugin
from ..endpoints.models import ServerModel
from ..errors import BusyServer, EngineError, LostServer, ModelUnavailable, TieredError, causes_of
from ..redaction import redact
from ..wording import span
from . import refusals
from .keys import key_fix, known_keys
from .plugins import plugin_of, start_fix
from .problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llm.models import _BaseModel

    from .refusals import Refusal

# Longest reason, in characters.
_LONGEST = 300

# The statuses of a service that is busy or broken for a moment; 529 is Anthropic's.
_OVERLOADED = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, 529}
_PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY}
_NOT_PASSING = {
    *(HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED),
    HTTPStatus.LOOP_DETECTED,
}
_REFUSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}

# The words of services, in their messages and in the names of their errors. Several hand on only
# the message, and some use one status for different errors.
_NO_CREDIT = re.compile(
    r"insufficient[_ ](?:quota|credit|balance|funds)|credit balance|out of credits?"
    r"|credits? (?:are|is|have been|has been) (?:depleted|exhausted|used up)|payment[_ ]required"
    r"|billing_(?:error|disabled|hard_limit|not_active)|requires billing|billing account"
    r"|billing is (?:disabled|not)|enable billing|API usage limits"
    r"|(?:spend|spending|billing hard) (?:cap|limit)|\blimit: 0(?!\.?\d)",
    re.IGNORECASE,
)
_WRONG_KEY = re.compile(
    r"api[-_ ]?key|authentication[_ ](?:credential|error|fail)|unauthenticated|unauthori[sz]ed"
    r"|invalid[_ ]token|permission[_ ](?:denied|error)|CONSUMER_(?:SUSPENDED|INVALID)"
    r"|SERVICE_DISABLED"
    r"|has not been used in project|insufficient permission",
    re.IGNORECASE,
)
_NOT_SERVED = re.compile(
    r"\bmodels?\b.{0,200}(?:not found|does not exist)|model_not_found|not a valid model\b"
    r"|^model: \S+ not_found_error"
    r"|location is not supported|not (?:available|supported) in your (?:country|region)",
    re.IGNORECASE | re.DOTALL,
)
_TOO_LARGE = re.compile(r"request (?:is )?too large|tokens must be reduced", re.IGNORECASE)
_NO_MEMORY = re.compile(r"requires more (?:system |GPU )?memory", re.IGNORECASE)
_FLAGGED = re.compile(
    r"(?:input|prompt|content|request) (?:was|were|has been) flagged|\bmoderation\b"
    r"|content[_ ](?:policy|filter)",
    re.IGNORECASE,
)
_PER_DAY = re.compile(
    r"per[-_ ]?day|\bdaily\b|/day\b|\b[RT]PD\b|per[-_ ]?month|\bmonthly\b", re.IGNORECASE
)
_LIMIT = re.compile(
    r"rate.?limit|quota|resources?[_ ](?:has been |have been |is |are )?exhausted"
    r"|too many requests|overloaded|high demand|at capacity"
    r"|(?:currently|temporarily|service) unavailable|^unavailable\b|try again later",
    re.IGNORECASE,
)
_BROKEN_FOR_NOW = re.compile(
    r"try again|unavailable|internal.?(?:server.?)?error|api_error|server_error|deadline"
    r"|timed? ?out|timeout_error|bad gateway",
    re.IGNORECASE,
)

# The libraries that make a request again, twice by default.
_RETRYING = {"openai", "anthropic"}

_NO_NETWORK = "check the network"
_TIMEOUT = "timeout in the tier's options"
_NO_ANSWER = "the service sent no usable answer"

# Google says of a spent daily quota that a retry helps in less than a minute.
_TOO_SOON = timedelta(hours=1)


def explain(
    error: Exception,
    *,
    model: _BaseModel | None = None,
    secrets: Iterable[str | None] | None = None,
    now: datetime | None = None,
) -> Problem:
    """The problem behind an error of a model, its reason in one line and without any secret.

    By default the secrets are all keys that are stored, and the model's own. The fix names the
    key of that model's provider.
    """
    problem = _explain(error, model, now or datetime.now(timezone.utc))
    if secrets is None:
        secrets = known_keys([model] if model else [])
    return replace(
        problem,
        reason=_line(redact(refusals.beginning(problem.reason), secrets), problem.retry_after),
        cools_down=problem.cools_down or problem.transient or problem.refuses_key,
        retried=problem.transient and _is_retried(error, model),
    )


def _is_retried(error: Exception, model: _BaseModel | None) -> bool:
    """Whether a library has made the request again itself; llm's own plugin is kept from that.

    So are the servers of tiers.
    """
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return (
        type(error).__module__.partition(".")[0] in _RETRYING
        and bool(kinds & {"APIStatusError", "APIConnectionError"})
        and getattr(error, "status_code", None) != HTTPStatus.OK  # an error within a stream
        and not openai_plugin.is_of_plugin(model)
        and not isinstance(model, ServerModel)
    )


def _line(reason: str, retry_after: float | None) -> str:
    """The reason on one short line. Services tell the time to wait last, so it is not cut off."""
    line = " ".join(reason.split())
    end = "" if retry_after is None else f"… (retry in {span(retry_after)})"
    return line if len(line) <= _LONGEST else line[: _LONGEST - len(end)] + end


def _explain(error: Exception, model: _BaseModel | None, now: datetime) -> Problem:
    if isinstance(error, TieredError):
        return _own_problem(error)
    if isinstance(error, llm.NeedsKeyException):
        return Problem("no key", str(error).removeprefix("No key found - "))
    if isinstance(error, ValidationError):
        wrong = ", ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
        )
        return Problem(f"wrong options: {wrong}")
    if problem := _connection_problem(error, model):
        return problem
    if refusal := refusals.read(error, now):
        return _refusal_problem(refusal, model, now)
    if gemini.is_broken_stream(error):
        return Problem(f"{_NO_ANSWER}{_quoted(error)}", transient=True)
    return Problem(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


def _own_problem(error: TieredError) -> Problem:
    """What an error of this package means."""
    if isinstance(error, BusyServer):
        wait = error.retry_after
        return Problem(error.message, transient=True, at_limit=True, retry_after=wait)
    if isinstance(error, LostServer):
        return Problem(error.message, error.fix, transient=True)
    cools_down = isinstance(error, (EngineError, ModelUnavailable))
    return Problem(error.message, error.fix, cools_down=cools_down)


def _refusal_problem(refusal: Refusal, model: _BaseModel | None, now: datetime) -> Problem:
    """What a service's own words and its status mean."""
    reason, status, told = refusal.reason, refusal.status, refusal.retry_after
    words = " ".join([refusal.message, *refusal.names])
    fix = key_fix(model)
    if (status == HTTPStatus.TOO_MANY_REQUESTS and _TOO_LARGE.search(words)) or (
        status == HTTPStatus.FORBIDDEN and _FLAGGED.search(words)
    ):
        # Other requests are answered, and this one will never be.
        return Problem(reason)
    limited = status == HTTPStatus.TOO_MANY_REQUESTS or (
        (status is None or status in _OVERLOADED | _REFUSED) and _LIMIT.search(words)
    )
    # Google's words for a limit of any kind are "check your plan and billing details".
    if status == HTTPStatus.PAYMENT_REQUIRED or _NO_CREDIT.search(words):
        return Problem(reason, fix and f"add credit, or {fix}", refuses_key=True)
    if limited and _PER_DAY.search(words):
        return _daily_limit(refusal, model, now)
    if limited or status in _OVERLOADED:
        return Problem(reason, transient=True, at_limit=True, retry_after=told)
    if status in _REFUSED or (status in (None, 400) and _WRONG_KEY.search(words)):
        return Problem(reason, fix, refuses_key=True)
    if status in (None, 400, HTTPStatus.NOT_FOUND) and _NOT_SERVED.search(words):
        return Problem(reason, cools_down=True)
    if _NO_MEMORY.search(words):
        return Problem(reason, cools_down=True)
    if status is None:
        passing = told is not None or bool(_BROKEN_FOR_NOW.search(words))
    else:
        passing = status in _PASSING or (status >= 500 and status not in _NOT_PASSING)
    return Problem(reason, transient=passing, retry_after=told if passing else None)


def _daily_limit(refusal: Refusal, model: _BaseModel | None, now: datetime) -> Problem:
    """The problem with a quota that no retry brings back today."""
    ends = gemini.quotas_begin_anew(now)
    told = refusal.retry_after
    google = model is not None and gemini.is_gemini(model.model_id)
    if told is not None and (not google or told >= _TOO_SOON.total_seconds()):
        ends = now + timedelta(seconds=told)
    until = f"{ends.astimezone():%Y-%m-%d %H:%M}"
    return Problem(
        f"the daily quota is used up until {until}: {refusal.reason}",
        cools_down=True,
        retry_after=(ends - now).total_seconds(),
    )


def _connection_problem(error: Exception, model: _BaseModel | None) -> Problem | None:
    """What went wrong on the way to a service, whichever library noticed, or None."""
    if type(error).__module__.partition(".")[0] == "filelock":
        return None
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & {"APIConnectionError", "APITimeoutError"} and isinstance(error.__cause__, Exception):
        # The libraries of OpenAI and Anthropic say less than the one below them.
        below = error.__cause__
        return _connection_problem(below, model) or _unreachable(below, model)
    if kinds & {"TimeoutException", "APITimeoutError", "TimeoutError", "Timeout"}:
        return Problem("no answer in time", _TIMEOUT, transient=True)
    if kinds & {"ConnectError", "ConnectionRefusedError", "APIConnectionError", "gaierror"}:
        return _unreachable(error, model)
    if "LocalProtocolError" in kinds:
        # The message quotes the header that was rejected, which may hold the key.
        reason = "the request can't be sent: is there a line break in the key?"
        return Problem(reason, key_fix(model))
    if isinstance(error, UnicodeEncodeError) and error.encoding == "ascii":
        reason = "the request can't be sent: has the key a quotation mark, or another sign?"
        return Problem(reason, key_fix(model))
    if kinds & {"TransportError", "ConnectionError"}:
        return _broken(error, model)
    return None


def _is_refused(error: BaseException) -> bool:
    """Whether the machine at the other end refused the connection, as one of the causes says."""
    return any(isinstance(each, ConnectionRefusedError) for each in causes_of(error))


def _broken(error: Exception, model: _BaseModel | None) -> Problem:
    """A broken connection, or a refused one in the words of a library that hides the cause."""
    if _is_refused(error):
        return _unreachable(error, model)
    return Problem(f"the connection broke: {error}", transient=True)


def _unreachable(error: Exception, model: _BaseModel | None) -> Problem:
    if _is_refused(error):
        # Nothing listens there, and nothing will within seconds.
        reason = "can't be reached: connection refused"
        return Problem(reason, start_fix(plugin_of(model)), cools_down=True)
    return Problem(f"can't be reached: {error}", _NO_NETWORK, transient=True)


def _quoted(error: Exception) -> str:
    """What ijson quotes of an answer that is not JSON."""
    said, _, quoted = str(error).partition("\n")
    return f": {quoted.splitlines()[0].strip()}" if said.startswith("lexical error") else ""
