"""What is specific to Gemini: the form of its names, replies and errors.

The replies are those of https://ai.google.dev/api/generate-content, as llm-gemini logs them.
"""

from __future__ import annotations

import copy
import inspect
from dataclasses import replace
from datetime import datetime, time, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

from .strict_http import with_strict_clients

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
    from datetime import tzinfo
    from types import CodeType, FrameType

    import llm

PLUGIN = "llm_gemini"
"""Module of llm-gemini."""

PREFIX = "gemini/"
"""Beginning of the ids of llm-gemini's models."""

KEY_NAME = "gemini"
"""Name of the API key among llm's stored keys."""

KEY_VARIABLE = "LLM_GEMINI_KEY"
"""Environment variable with the API key."""

INSTALL = "llm install llm-gemini"
SET_KEY = f"llm keys set {KEY_NAME}"

DEFAULT_TEMPERATURE = 1.0
"""Temperature of a request without one."""

PLAIN_DETAILS = (
    *("promptTokensDetails", "candidatesTokensDetails", "candidatesTokenCount"),
    *("thoughtsTokenCount", "tokenCount", "modality", "TEXT"),
)
"""The words in the details of most requests: those that tell no price apart. Longest first."""

VERSION_PATH = "$.response.modelVersion"
"""Path of the version of the model that answered, in the log's response_json."""

# Stands for the thought signature of a call that another model made
# (https://ai.google.dev/gemini-api/docs/thought-signatures).
_NO_SIGNATURE = {"thoughtSignature": "skip_thought_signature_validator"}

# Models before Gemini 3 don't ask for signatures.
_WITHOUT_SIGNATURES = (f"{PREFIX}gemini-1", f"{PREFIX}gemini-2", f"{PREFIX}gemma")

_VERSION = "modelVersion"
_FINISH = "finishReason"
_USAGE = "usageMetadata"
_OUTPUT_COUNTS = {"candidatesTokenCount", "thoughtsTokenCount"}

# Models before Gemini 3 are charged for by the prompt with searches, all others by the search
# (https://ai.google.dev/gemini-api/docs/pricing).
_CHARGED_BY_PROMPT = ("gemini-1", "gemini-2")

# The attribute of a response with the finish reason that came last.
_NOTED = "_gemini_finish_reason"

# The attribute with the number of searches.
_SEARCHES = "_gemini_searches"

# Types of the details of an error (https://cloud.google.com/apis/design/errors).
_RETRY_INFO = "google.rpc.RetryInfo"

# Daily quotas start anew at midnight here (https://ai.google.dev/gemini-api/docs/rate-limits).
_QUOTA_ZONE = "America/Los_Angeles"


def is_gemini(model_id: str) -> bool:
    """Whether this is the id of one of llm-gemini's models."""
    return model_id.startswith(PREFIX)


def wants_signatures(model_id: str) -> bool:
    """Whether this model refuses tool calls of the current turn without a thought signature."""
    return is_gemini(model_id) and not model_id.startswith(_WITHOUT_SIGNATURES)


def with_signatures(messages: Sequence[llm.Message]) -> list[llm.Message]:
    """Return the messages with a thought signature on every step of the current turn.

    A step is one message with tool calls, of which the first has the signature. Gemini's own is
    kept; a step that another model took gets the value that Google documents for it.
    """
    turns = [number for number, message in enumerate(messages) if _is_question(message)]
    begin = turns[-1] if turns else 0
    return [*messages[:begin], *map(_with_signature, messages[begin:])]


def _is_question(message: llm.Message) -> bool:
    from llm.parts import TextPart

    # Attachments that a tool returns come in a message of the user without text.
    return message.role == "user" and any(isinstance(part, TextPart) for part in message.parts)


def _with_signature(message: llm.Message) -> llm.Message:
    from llm.parts import ToolCallPart

    for number, part in enumerate(message.parts):
        if isinstance(part, ToolCallPart) and not part.server_executed:
            metadata = part.provider_metadata or {}
            own = _NO_SIGNATURE | metadata.get("gemini", {})
            signed = replace(part, provider_metadata={**metadata, "gemini": own})
            return replace(
                message, parts=[*message.parts[:number], signed, *message.parts[number + 1 :]]
            )
    return message


def is_reply(response_json: Any) -> bool:
    """Whether a model's response_json is a reply of Gemini."""
    return isinstance(response_json, dict) and bool(
        response_json.keys() & {"candidates", "promptFeedback"}
    )


def model_version(response_json: Any) -> str | None:
    """Return the version of the model that answered, or None if the reply does not say."""
    version = response_json.get(_VERSION) if isinstance(response_json, dict) else None
    return version if isinstance(version, str) else None


def finish_reason(response_json: Any) -> str | None:
    """Return why the answer ended, such as "STOP", or None if the reply does not say.

    Gemini always gives one: without it, the connection broke or the prompt was blocked.
    """
    try:
        reason = response_json["candidates"][0][_FINISH]
    except (LookupError, TypeError):
        return None
    return str(reason) if reason else None


def is_complete(response_json: Any) -> bool:
    """Whether the answer reached its natural end."""
    return finish_reason(response_json) == "STOP"


def is_cut_off(response_json: Any) -> bool:
    """Whether a limit on the number of tokens ended the answer."""
    return finish_reason(response_json) == "MAX_TOKENS"


def block_reason(response_json: Any) -> str | None:
    """Return why Gemini refused the prompt, such as "SAFETY", or None."""
    try:
        reason = response_json["promptFeedback"]["blockReason"]
    except (LookupError, TypeError):
        return None
    return str(reason) if reason else None


def error_in_stream(error: Exception) -> dict[str, Any] | None:
    """Return the element of the stream that made llm-gemini raise this error, or None.

    llm-gemini raises an error with the message alone, or a KeyError if there is none, but the
    element with the status and the details is still in the frame that raised it.
    """
    traceback = error.__traceback__
    while traceback:
        frame = traceback.tb_frame
        event = frame.f_locals.get("event")
        if frame.f_globals.get("__name__") == PLUGIN and isinstance(event, dict):
            return event if "error" in event else None
        traceback = traceback.tb_next
    return None


def error_names(error: dict[str, Any]) -> list[str]:
    """Return what the details of an error call its reason and the quotas that it names."""
    names: list[str] = []
    for detail in _details(error):
        names += [detail[key] for key in ("reason", "quotaId", "quotaMetric") if key in detail]
        for violation in detail.get("violations") or ():
            names += [violation[key] for key in ("quotaId", "quotaMetric") if key in violation]
    return [name for name in names if isinstance(name, str)]


def retry_delay(error: dict[str, Any]) -> float | None:
    """Return the seconds in the RetryInfo of an error, or None without it."""
    for detail in _details(error):
        delay = detail.get("retryDelay")
        if str(detail.get("@type", _RETRY_INFO)).endswith(_RETRY_INFO) and delay is not None:
            try:
                return float(str(delay).removesuffix("s"))
            except ValueError:
                return None
    return None


def quotas_begin_anew(now: datetime) -> datetime:
    """Return when the quotas of the current day end: the next midnight on the Pacific coast."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        zone: tzinfo = ZoneInfo(_QUOTA_ZONE)
    except ZoneInfoNotFoundError:
        # Without a database of time zones, an hour late in summer.
        zone = timezone(timedelta(hours=-8))
    tomorrow = now.astimezone(zone).date() + timedelta(days=1)
    return datetime.combine(tomorrow, time(), zone)


def is_broken_stream(error: Exception) -> bool:
    """Whether llm-gemini raises this error when a reply breaks off or is empty."""
    # It parses the stream with ijson, and takes the last event whether or not there is one.
    return type(error).__module__.partition(".")[0] == "ijson" or isinstance(error, IndexError)


def attentive(model: Any) -> Any:
    """Return a copy of a model of llm-gemini that sees how its answers end; others as they are.

    llm-gemini keeps the last event of a reply, which need not be the one with the finish reason.
    Without a model version in it, it raises KeyError after a whole answer; without candidates,
    IndexError. It would also make a function call that is part of the thoughts. It counts tokens
    only once a reply is complete, and searches never; Google charges for both. Of an error it
    hands on the message at most, so that it runs with clients that raise for an error status.
    """
    is_own = is_gemini(model.model_id) and hasattr(model, "process_candidates")
    # A model with an `execute` of its own is attentive already, or wraps one that is.
    if not is_own or "execute" in vars(model):
        return model
    copied = copy.copy(model)
    execute = _execute_async if inspect.isasyncgenfunction(type(model).execute) else _execute
    vars(copied).update(
        execute=partial(execute, copied),
        process_candidates=partial(_process_candidates, model),
        set_usage=partial(_set_usage, model),
    )
    return copied


def _execute(model: Any, *args: Any, response: Any, **kwargs: Any) -> Iterator[Any]:
    execute = with_strict_clients(type(model).execute)
    stream = execute(model, *args, response=response, **kwargs)
    elements: Sequence[Any] = ()
    try:
        for event in stream:
            elements = elements or _elements(stream.gi_frame)
            yield event
    except BaseException as error:
        if not _lacks_version(error, response):
            _keep_usage(model, response, _locals(stream.gi_frame, stream.gi_code, error))
            raise
        model.set_usage(response)
    finally:
        stream.close()
    _count_earlier(model, response, elements)


async def _execute_async(
    model: Any, *args: Any, response: Any, **kwargs: Any
) -> AsyncGenerator[Any, None]:
    execute = with_strict_clients(type(model).execute)
    stream = execute(model, *args, response=response, **kwargs)
    elements: Sequence[Any] = ()
    try:
        async for event in stream:
            elements = elements or _elements(stream.ag_frame)
            yield event
    except BaseException as error:
        if not _lacks_version(error, response):
            _keep_usage(model, response, _locals(stream.ag_frame, stream.ag_code, error))
            raise
        model.set_usage(response)
    finally:
        await stream.aclose()
    _count_earlier(model, response, elements)


def _elements(frame: FrameType | None) -> Sequence[Any]:
    """Return the list in which llm-gemini gathers the elements of a reply."""
    elements: Sequence[Any] = frame.f_locals.get("gathered", ()) if frame else ()
    return elements


def _count_earlier(model: Any, response: Any, elements: Sequence[Any]) -> None:
    """Count the tokens that an earlier element tells, if the last one tells none."""
    usages = [each.get(_USAGE) for each in elements if isinstance(each, dict)]
    # The first elements often count the prompt alone.
    told = [usage for usage in usages if usage and usage.keys() & _OUTPUT_COUNTS]
    usage = told[-1] if told else None
    if response.input_tokens is None and usage and response.response_json:
        response.response_json[_USAGE] = copy.deepcopy(usage)
        model.set_usage(response)


def _lacks_version(error: BaseException, response: Any) -> bool:
    """Whether llm-gemini raised this after a whole answer, for want of a model version."""
    missing = isinstance(error, KeyError) and error.args == (_VERSION,)
    return missing and response.response_json is not None


def _locals(frame: FrameType | None, code: CodeType, error: BaseException) -> dict[str, Any]:
    """Return the variables of llm-gemini's function where it waits, or raised the error."""
    trace = error.__traceback__
    while frame is None and trace:
        if trace.tb_frame.f_code is code:
            frame = trace.tb_frame
        trace = trace.tb_next
    return dict(frame.f_locals) if frame else {}


def _keep_usage(model: Any, response: Any, variables: Mapping[str, Any]) -> None:
    """Count the tokens of a reply that was broken off, from the last event that says how many."""
    for event in reversed([*variables.get("gathered", ()), variables.get("event")]):
        if response.input_tokens is None and isinstance(event, dict) and _USAGE in event:
            response.response_json = copy.deepcopy(event)
            if version := model_version(event):
                response.set_resolved_model(version)
            model.set_usage(response)


def _process_candidates(model: Any, candidates: Any, response: Any) -> Iterator[Any]:
    """Yield the events of the first candidate without the calls in its thoughts; note its end."""
    candidate = next((each for each in candidates or () if not each.get("index")), None)
    if candidate is None:
        return
    if reason := candidate.get(_FINISH):
        setattr(response, _NOTED, reason)
    queries = (candidate.get("groundingMetadata") or {}).get("webSearchQueries") or ()
    setattr(response, _SEARCHES, max(len(queries), getattr(response, _SEARCHES, 0)))
    content = candidate.get("content") or {}
    parts = [
        part
        for part in content.get("parts") or ()
        if not (part.get("thought") and "functionCall" in part)
    ]
    yield from model.process_candidates(
        [candidate | {"content": content | {"parts": parts}}], response
    )


def _set_usage(model: Any, response: Any) -> None:
    """Put the finish reason into the event that llm-gemini keeps, and count the tokens in it."""
    reply = response.response_json
    if not reply.get("candidates"):
        reply["candidates"] = [{}]
    if reason := getattr(response, _NOTED, None):
        reply["candidates"][0][_FINISH] = reason
    if not reply.get("usageMetadata"):
        # llm-gemini copes with a missing one, but not with null.
        reply.pop("usageMetadata", None)
    model.set_usage(response)
    if searches := getattr(response, _SEARCHES, 0):
        if (model_version(reply) or "").startswith(_CHARGED_BY_PROMPT):
            searches = 1
        details = dict(response.token_details or {}) | {
            "server_tool_use": {"web_search_requests": searches}
        }
        response.set_usage(
            input=response.input_tokens, output=response.output_tokens, details=details
        )


def _details(error: dict[str, Any]) -> list[dict[str, Any]]:
    details = error.get("details")
    if not isinstance(details, list):
        return []
    return [detail for detail in details if isinstance(detail, dict)]
