"""How an answer ended: the finish reasons of services, read from the replies that plugins keep."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

from . import gemini, openai_plugin

HowEnded: TypeAlias = Literal["whole", "limit", "broken", "unknown"]

# The names under which replies say why an answer ended: OpenAI's and that of local models,
# Anthropic's, Ollama's, Bedrock's, and OpenAI's for its Responses API.
_NAMES = ("finish_reason", "stop_reason", "done_reason", "stopReason", "status")

# Mistral says model_length, Cohere COMPLETE; what ends with pause_turn is to be continued.
_WORDS: dict[HowEnded, tuple[str, ...]] = {
    "whole": (
        *("stop", "end_turn", "stop_sequence", "completed", "complete", "eos"),
        *("tool_calls", "tool_use", "function_call"),
    ),
    "limit": (
        *("length", "max_tokens", "max_output_tokens", "incomplete", "model_length"),
        "model_context_window_exceeded",
    ),
    "broken": (
        *("content_filter", "content_filtered", "refusal", "guardrail_intervened", "safety"),
        *("error", "failed", "cancelled", "abort", "in_progress", "pause_turn"),
        "insufficient_system_resource",
    ),
}
_HOW: dict[str, HowEnded] = {word: how for how, words in _WORDS.items() for word in words}


class Ending(NamedTuple):
    """How an answer ended: whole, at a limit of tokens, broken off, or in a way nobody knows here.

    `reason` is the service's own word for it; None if its reply should have one and has none,
    because the connection ended first.
    """

    how: HowEnded
    reason: str | None

    @property
    def calls_tools(self) -> bool:
        """Whether the answer ended with tool calls."""
        return self.reason in {"tool_calls", "tool_use", "function_call"}


def ending(reply: Any) -> Ending | None:
    """Return how an answer ended by its response_json, or None if that does not say.

    Plugins keep what they like there; most of them keep the service's own reply.
    """
    if gemini.is_reply(reply):
        return _ending_of_gemini(reply)
    if not isinstance(reply, dict):
        return None
    choices = reply.get("choices")
    place = choices[0] if isinstance(choices, list) and choices else reply
    if not isinstance(place, dict):
        return Ending("broken", None)
    reason = next((place[name] for name in _NAMES if place.get(name) is not None), None)
    if reason is None:
        return Ending("broken", None) if _always_says_why(reply) else None
    # Why a reply of OpenAI's Responses API is incomplete.
    details = reply.get("incomplete_details")
    reason = (isinstance(details, dict) and details.get("reason")) or reason
    return Ending(_HOW.get(str(reason).lower(), "unknown"), str(reason))


def attentive(model: Any) -> Any:
    """Return a model that keeps how its answers end: a copy if its plugin would drop that."""
    return openai_plugin.attentive(gemini.attentive(model))


def _ending_of_gemini(reply: Any) -> Ending:
    reason = gemini.finish_reason(reply)
    if gemini.is_complete(reply):
        return Ending("whole", reason)
    how: HowEnded = "limit" if gemini.is_cut_off(reply) else "broken"
    return Ending(how, gemini.block_reason(reply) or reason)


def _always_says_why(reply: dict[str, Any]) -> bool:
    """Whether a whole reply of this form has a finish reason.

    The forms are those of chat completions, also of streamed ones as llm's own plugin joins them,
    of Anthropic's messages, and of Ollama.
    """
    return (
        reply.get("object") in ("chat.completion", "chat.completion.chunk")
        or (reply.get("type") == "message" and "stop_reason" in reply)
        or reply.get("done") is False
    )
