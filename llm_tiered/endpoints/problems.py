"""Failures between this machine and a server, as errors that explain them.

An error that the server reports itself, such as a status with a message, is left to the router.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
from typing import TYPE_CHECKING, Any

from ..errors import IncompleteAnswer, MissingModel, ModelUnavailable, NotRunning, causes_of
from ..openai_plugin import FailedReply
from ..paths import config_path
from ..wording import did_you_mean, line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .endpoint import Endpoint

# Characters of a web page that are searched for its title.
_SEARCHED = 4000

# Models that a message lists, and characters of their names: a service may have hundreds.
_MOST_MODELS, _MOST_CHARACTERS = 5, 150

# What servers send with a 404 in place of a message.
_STATUS_ONLY = ("not found", "404 not found", "404 page not found")

_START = "start the server, or correct its address in the config"


def connection_error(error: Exception, endpoint: Endpoint) -> Exception | None:
    """Return the error that says why there is no connection, or None if there was one.

    A server that can't be reached is not worth a retry: it has to be started first.
    """
    causes = list(causes_of(error))
    kinds = {kind.__name__ for each in causes for kind in type(each).__mro__}
    where = endpoint.address
    if wrong := next((each for each in causes if isinstance(each, ssl.SSLError)), None):
        return _tls_error(wrong, where)
    if "ConnectTimeout" in kinds:
        return NotRunning(f"{where} does not answer", fix=_START)
    if not kinds & {"ConnectError", "ConnectionRefusedError", "gaierror"}:
        return None
    if any(isinstance(each, ConnectionRefusedError) for each in causes):
        return NotRunning(f"{where} can't be reached: connection refused", fix=_START)
    if any(isinstance(each, FileNotFoundError) for each in causes):
        return NotRunning(f"{where} is not there", fix=_START)
    if any(isinstance(each, socket.gaierror) for each in causes):
        return NotRunning(f"{where} can't be reached: the name is not known", fix=_correct())
    return NotRunning(f"{where} can't be reached: {error.__cause__ or error}", fix=_START)


def _correct() -> str:
    return f"correct it in {config_path()}"


def _tls_error(error: ssl.SSLError, where: str) -> Exception:
    if isinstance(error, ssl.SSLCertVerificationError):
        return ModelUnavailable(
            f"the certificate of {where} can't be verified: {error.verify_message}",
            fix="SSL_CERT_FILE=… with the certificate that it is signed with",
        )
    reason = error.reason or str(error)
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"):
        return ModelUnavailable(f"{where} does not speak TLS", fix=f"http:// in {config_path()}")
    return ModelUnavailable(f"no TLS with {where}: {reason}")


def silence_error(seconds: float, where: str) -> Exception:
    """Return the error for a server that has sent nothing for so long."""
    return ModelUnavailable(
        f"{where} was silent for {seconds:g} s", fix="timeout in the tier's options"
    )


def redirect_error(status: int, location: str | None, where: str) -> Exception | None:
    """Return the error for an answer that is a redirect, or None if it is not."""
    if not 300 <= status < 400:
        return None
    to = f" to {location}" if location else ""
    return ModelUnavailable(
        f"{where} redirects{to} (HTTP {status}), which is not followed", fix=_correct()
    )


def not_found_error(
    message: str, model: str, models: Sequence[str] | None, where: str
) -> Exception | None:
    """Return the error for a 404, or None if the server's own `message` explains it.

    It is MissingModel unless the server itself is the problem. `models` are those that the server
    lists, or None if it lists none.
    """
    if message and not re.search("model", message, re.I):
        return None
    if models is not None and model not in models:
        return MissingModel(f"{where} {missing_model(model, models)}", fix=_correct())
    if message:
        return MissingModel(message, fix=_correct())
    if models is not None:
        return None
    return ModelUnavailable(
        f"there is no chat API at {where}: does the address end in /v1?", fix=_correct()
    )


def missing_model(model: str, models: Sequence[str]) -> str:
    """Return the message that a server has other models than this one."""
    if not models:
        return "has no models"
    hint = did_you_mean(model, models)
    return f"has no model {model!r}, only {_some(models)}{hint and f' ({hint})'}"


def _some(names: Sequence[str]) -> str:
    """The first of these names, whole, and how many there are more."""
    shown = [*names[:1]]
    for name in names[1:_MOST_MODELS]:
        if len(", ".join([*shown, name])) > _MOST_CHARACTERS:
            break
        shown.append(name)
    more = len(names) - len(shown)
    *others, last = [*shown, f"{more:,} more"] if more else shown
    return f"{', '.join(others)} and {last}" if others else last


def message_of(error: Exception) -> str:
    """Return the message of a server's error, or "" if that only repeats the status."""
    body = getattr(error, "body", None)
    message = body.get("message") or body.get("detail") if isinstance(body, dict) else body
    if not isinstance(message, str) or message.strip().lower() in _STATUS_ONLY:
        return ""
    return message


def not_streamed(headers: Mapping[str, str]) -> str | None:
    """Return the type of what came in place of a stream, or None if it may be one."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind if kind.endswith("json") or kind == "text/html" else None


def whole_reply(kind: str, text: str, where: str) -> dict[str, Any]:
    """Return the completion that came whole in place of a stream.

    Raises FailedReply if it is an error, ModelUnavailable if it is a web page, else
    IncompleteAnswer.
    """
    if kind == "text/html":
        title = re.search(r"<title[^>]*>(.*?)</title>", text[:_SEARCHED], re.I | re.S)
        page = _beginning(title[1] if title else text)
        raise ModelUnavailable(f"{where} answers with a web page: {page}", fix=_correct())
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict) and (error := value.get("error")):
        raise FailedReply(error if isinstance(error, dict) else {"message": str(error)})
    if isinstance(value, dict) and value.get("choices"):
        return value
    what = "not JSON" if value is None else "JSON, but not a chat completion"
    raise IncompleteAnswer(f"{where} sent a reply that is {what}: {_beginning(text)}")


def unexpected(value: Any, expected: str) -> IncompleteAnswer:
    """Return the error for a value in a stream that has another form."""
    text = line(json.dumps(value, ensure_ascii=False), 60)
    return IncompleteAnswer(f"the stream holds {text} instead of {expected}")


def not_json(error: Exception) -> IncompleteAnswer:
    """Return the error for an event of a stream that is not JSON."""
    event = getattr(error, "doc", "")
    return IncompleteAnswer(f"the stream holds an event that is not JSON: {_beginning(event)}")


def _beginning(text: str) -> str:
    return repr(line(re.sub(r"<[^>]*>", " ", text[:_SEARCHED]).strip(), 80))
