"""An error → the status and the body that clients of OpenAI's API understand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import llm
from pydantic import ValidationError

from ..errors import (
    AllTiersFailed,
    ConfigError,
    ModelUnavailable,
    PromptTooLong,
    RequestError,
    TieredError,
)
from ..router.failures import explain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..log.record import Attempt

# The clients of OpenAI send a request again after any 5xx, but the chain has done that already.
NO_RETRY = {"x-should-retry": "false"}

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """An error for the client. `code` and `param` are OpenAI's: what is wrong, and with what."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """Return the error in OpenAI's form."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        error = {
            "message": self.message,
            "type": _TYPES.get(self.status, kind),
            "param": self.param,
            "code": self.code,
        }
        return {"error": error}


def bad_request(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """Return the error for a request that can't be served in this form."""
    return ApiError(400, message, code=code, param=param)


def api_error(error: Exception, attempts: Iterable[Attempt] = ()) -> ApiError:
    """Return the client's error for one that ended a request; `attempts` are those of the chain."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, RequestError):
        too_long = isinstance(error, PromptTooLong)
        code = "context_length_exceeded" if too_long else "invalid_request"
        return bad_request(str(error), "messages" if too_long else None, code)
    if isinstance(error, ValidationError):
        params = [".".join(map(str, item["loc"])) for item in error.errors()]
        return bad_request(explain(error).reason, params[0] if params else None)
    if isinstance(error, ConfigError):
        return ApiError(500, str(error), code="config_error", headers=NO_RETRY)
    if isinstance(error, AllTiersFailed):
        asked = any(attempt.outcome == "failed" for attempt in attempts)
        code = "no_model_answered"
        return ApiError(502 if asked else 503, str(error), code=code, headers=NO_RETRY)
    if isinstance(error, (ModelUnavailable, llm.NeedsKeyException)):
        return ApiError(503, str(error), code="model_unavailable", headers=NO_RETRY)
    if isinstance(error, TieredError):
        return ApiError(502, str(error), code="model_failed", headers=NO_RETRY)
    reason = explain(error).reason
    return ApiError(500, f"internal error: {reason}", code="internal_error", headers=NO_RETRY)
