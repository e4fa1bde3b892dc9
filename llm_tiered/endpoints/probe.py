"""What a server can do with its model, found out by asking it.

No question can be answered well by chance: nothing in the prompt hints at the schema, for example.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import llm

from .. import json_schema
from ..errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# `unknown` means that this model does not show it, though the server may be able to do it.
Verdict: TypeAlias = Literal["yes", "no", "unknown"]

# Sends a prompt with options and other settings; returns the finished response, or raises.
Ask: TypeAlias = "Callable[..., llm.Response]"

# Room for the thoughts of a model that thinks although it was told not to.
MOST_TOKENS = 512

# Long enough to fill a block of any server's cache of prompts.
_SYSTEM = "You answer in as few words as you can. " * 20
_SUM = "What is 17 + 25?"

# Without the schema, nobody answers this with one of these colours.
_FRUIT = "Name a fruit."
_COLOUR = {
    "type": "object",
    "properties": {"colour": {"type": "string", "enum": ["ultramarine", "vermilion"]}},
    "required": ["colour"],
    "additionalProperties": False,
}

_WEATHER = "What is the temperature in Paris? Use the tool that you have."


@dataclass(frozen=True)
class Capability:
    """Whether a server can do something, and how that showed."""

    name: str
    verdict: Verdict
    detail: str


def probe(ask: Ask, why: Callable[[Exception], str]) -> Iterator[Capability]:
    """Yield what a server can do, each as soon as it is known; `why` explains an error."""
    yield _schemas(ask, why)
    yield _tools(ask, why)
    try:
        first = _plain(ask)
    except Exception as error:
        yield Capability("answers", "no", why(error))
        return
    yield _reasoning(first)
    yield _usage(first)
    yield _cached_tokens(ask, first)
    yield _logprobs(ask, why)


def _schemas(ask: Ask, why: Callable[[Exception], str]) -> Capability:
    try:
        response = ask(_FRUIT, schema=_COLOUR, options={"thinking": False})
        json_schema.validate(response.text(), _COLOUR)
    except RequestError:
        return Capability("schemas", "no", "ignored")
    except Exception as error:
        return Capability("schemas", "no", why(error))
    return Capability("schemas", "yes", "enforced")


def _tools(ask: Ask, why: Callable[[Exception], str]) -> Capability:
    tool = llm.Tool.function(_temperature, name="temperature")
    try:
        calls = ask(_WEATHER, tools=[tool], options={"thinking": False}).tool_calls()
    except Exception as error:
        return Capability("tools", "no", why(error))
    if any(call.name == tool.name for call in calls):
        return Capability("tools", "yes", "called")
    # Small models often ignore tools, which says nothing about the server.
    return Capability("tools", "unknown", "accepted, but the model called none")


def _temperature(city: str) -> str:
    """Tell the temperature in a city."""
    return f"21 °C in {city}"


def _plain(ask: Ask, **options: Any) -> llm.Response:
    return ask(_SUM, system=_SYSTEM, options=options)


def _reasoning(response: llm.Response) -> Capability:
    thoughts = any(event.type == "reasoning" for event in response._stream_events)
    if thoughts:
        return Capability("reasoning", "yes", "separate from the answer")
    if "<think>" in response.text():
        detail = "part of the answer: the server needs a reasoning parser for this model"
        return Capability("reasoning", "no", detail)
    return Capability("reasoning", "unknown", "the model did not think")


def _usage(response: llm.Response) -> Capability:
    if response.input_tokens is None or response.output_tokens is None:
        return Capability("usage", "no", "tokens are not counted")
    counts = f"{response.input_tokens} + {response.output_tokens} tokens"
    return Capability("usage", "yes", f"counted ({counts})")


def _cached_tokens(ask: Ask, first: llm.Response) -> Capability:
    try:
        again = _plain(ask)
    except Exception:
        again = first
    for response in (again, first):
        details = (response.token_details or {}).get("prompt_tokens_details", {})
        if cached := details.get("cached_tokens"):
            return Capability("cached tokens", "yes", f"{cached} of {response.input_tokens}")
    return Capability("cached tokens", "unknown", "none reported for a repeated prompt")


def _logprobs(ask: Ask, why: Callable[[Exception], str]) -> Capability:
    try:
        facts = _plain(ask, logprobs=1).response_json
    except Exception as error:
        return Capability("log-probabilities", "no", why(error))
    if isinstance(facts, dict) and facts.get("logprobs"):
        return Capability("log-probabilities", "yes", "yes")
    detail = "no, so `escalate` judges the text alone"
    return Capability("log-probabilities", "no", detail)
