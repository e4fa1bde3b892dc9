"""An exception → the problem: what to tell the user, and whether a retry may help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import llm
from pydantic import ValidationError

from .. import gemini
from ..errors import EngineError, ModelUnavailable, TieredError

if TYPE_CHECKING:
    from collections.abc import Iterable

# Longest reason, in characters.
_LONGEST = 300


@dataclass(frozen=True)
class Problem:
    """Why a model can't answer, or did not.

    `fix` is the command that fixes it. A `transient` problem is worth a retry. One that
    `cools_down` would hit the next request too, so the model is left alone for a while. One that
    `escalates` is an answer that is too weak: the same model gets the `correction`, if there is
    one, and then larger models are tried. If none of them answers, a `usable` one is shown.
    """

    reason: str
    fix: str | None = None
    transient: bool = False
    cools_down: bool = False
    escalates: bool = False
    usable: bool = False
    correction: str | None = None


def explain(error: Exception, *, secrets: Iterable[str | None] = ()) -> Problem:
    """The problem behind an error, its reason in one line and without any of the secrets."""
    problem = _explain(error)
    return Problem(
        reason=" ".join(redact(problem.reason, secrets).split())[:_LONGEST],
        fix=problem.fix,
        transient=problem.transient,
        cools_down=problem.cools_down or problem.transient,
    )


def redact(text: str, secrets: Iterable[str | None] = ()) -> str:
    """The text without the secrets, and without anything that looks like a Google API key."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[key]")
    return gemini.hide_keys(text)


def _explain(error: Exception) -> Problem:
    if isinstance(error, TieredError):
        cools_down = isinstance(error, (EngineError, ModelUnavailable))
        return Problem(error.message, error.fix, cools_down=cools_down)
    if isinstance(error, llm.NeedsKeyException):
        return Problem("no key", str(error).removeprefix("No key found - "))
    if isinstance(error, llm.ModelError):
        return _model_error(str(error) or "the service gave no reason")
    if isinstance(error, ValidationError):
        wrong = ", ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
        )
        return Problem(f"wrong options: {wrong}")
    package = type(error).__module__.partition(".")[0]
    if package in ("httpx", "httpcore", "httpx2", "httpcore2"):
        return _http_error(error)
    if gemini.is_broken_stream(error):
        return Problem("the service sent no usable answer", transient=True)
    return Problem(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


def _model_error(message: str) -> Problem:
    if gemini.is_wrong_key(message):
        return Problem(message, gemini.KEY_FIX)
    return Problem(message, transient=gemini.is_transient(message))


def _http_error(error: Exception) -> Problem:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "TimeoutException" in kinds:
        return Problem("no answer in time", "timeout in the tier's options", transient=True)
    if "ConnectError" in kinds:
        return Problem(f"can't be reached: {error}", "check the network", transient=True)
    if "LocalProtocolError" in kinds:
        # The message quotes the header that was rejected, which may hold the key.
        return Problem(
            "the request can't be sent: is there a line break in the key?", gemini.KEY_FIX
        )
    if "TransportError" in kinds:
        return Problem(f"the connection broke: {error}", transient=True)
    return Problem(f"{type(error).__name__}: {error}")
