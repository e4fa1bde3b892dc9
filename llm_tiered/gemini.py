"""What is specific to Gemini: the form of its names, replies and errors.

The replies are those of https://ai.google.dev/api/generate-content, as llm-gemini logs them.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import llm

PREFIX = "gemini/"
"""Beginning of the ids of llm-gemini's models."""

KEY_NAME = "gemini"
"""Name of the API key among llm's stored keys."""

KEY_VARIABLE = "LLM_GEMINI_KEY"
"""Environment variable with the API key."""

INSTALL = "llm install llm-gemini"
SET_KEY = f"llm keys set {KEY_NAME}"
KEY_FIX = f"{SET_KEY}, or {KEY_VARIABLE}"

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

# llm-gemini passes on the message of Google's error, not its status code. These are the words of
# 429, 500, 502, 503 and 504 (https://ai.google.dev/gemini-api/docs/troubleshooting).
_TRANSIENT = re.compile(
    r"overloaded|rate.?limit|quota|exhausted|too many requests|try again|unavailable"
    r"|internal error|deadline|timed? ?out|high demand",
    re.IGNORECASE,
)
_WRONG_KEY = re.compile(
    r"api.?key|authentication credential|unauthenticated|permission denied", re.IGNORECASE
)
_KEY = re.compile(r"AIza[\w-]{20,}")


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
    version = response_json.get("modelVersion") if isinstance(response_json, dict) else None
    return version if isinstance(version, str) else None


def finish_reason(response_json: Any) -> str | None:
    """Return why the answer ended, such as "STOP", or None if the reply does not say.

    Gemini always gives one: without it, the connection broke or the prompt was blocked.
    """
    try:
        reason = response_json["candidates"][0]["finishReason"]
    except (LookupError, TypeError):
        return None
    return str(reason)


def is_complete(response_json: Any) -> bool:
    """Whether the answer reached its natural end."""
    return finish_reason(response_json) == "STOP"


def block_reason(response_json: Any) -> str | None:
    """Return why Gemini refused the prompt, such as "SAFETY", or None."""
    try:
        reason = response_json["promptFeedback"]["blockReason"]
    except (LookupError, TypeError):
        return None
    return str(reason)


def is_transient(message: str) -> bool:
    """Whether an error with this message is worth a retry."""
    return bool(_TRANSIENT.search(message))


def is_wrong_key(message: str) -> bool:
    """Whether an error with this message means that the API key was not accepted."""
    return bool(_WRONG_KEY.search(message))


def is_broken_stream(error: Exception) -> bool:
    """Whether llm-gemini raises this error when a reply breaks off or is empty."""
    # It parses the stream with ijson, and takes the last event whether or not there is one.
    return type(error).__module__.partition(".")[0] == "ijson" or isinstance(error, IndexError)


def hide_keys(text: str) -> str:
    """Return the text with everything that looks like one of Google's API keys replaced."""
    return _KEY.sub("[key]", text)
