"""The outer request → a request to the chosen model.

The inner request is a response of its own, so that nothing of a failed attempt ends up in the
outer one.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeAlias

import llm
from llm.parts import TextPart

from .. import gemini, instructions, openai_plugin
from ..endings import attentive
from .history import responses_before
from .option_names import SAMPLING, spelling
from .thinking import with_room

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from llm.models import _BaseConversation, _BaseModel, _BaseResponse
    from llm.parts import StreamEvent

Inner: TypeAlias = "llm.Model | llm.KeyModel"
AsyncInner: TypeAlias = "llm.AsyncModel | llm.AsyncKeyModel"


def inner_response(  # noqa: PLR0913 - facts of the outer response that the inner one needs
    inner: Inner | AsyncInner,
    options: llm.Options,
    more: Sequence[llm.Message] = (),
    *,
    prompt: llm.Prompt,
    stream: bool,
    conversation: _BaseConversation | None,
    key: str | None,
) -> Any:
    """The inner model's response to the outer prompt, followed by `more`; it is not started yet.

    It is an llm.AsyncResponse for an async model, else an llm.Response.
    """
    # A request that failed is made again by the chain, or not at all.
    inner = openai_plugin.without_retries(attentive(inner))
    asynchronous = isinstance(inner, (llm.AsyncModel, llm.AsyncKeyModel))
    kind: Any = llm.AsyncResponse if asynchronous else llm.Response
    shadow = _shadow(conversation, prompt, inner)
    return kind(_prompt(prompt, inner, options, more), inner, stream, shadow, key)


def finish(outer: _BaseResponse, inner: _BaseResponse, tool_calls: list[llm.ToolCall]) -> None:
    """Copy what the inner response holds once it is done: tool calls, usage and the model's id."""
    for call in tool_calls:
        outer.add_tool_call(call)
    outer.set_usage(
        input=inner.input_tokens, output=inner.output_tokens, details=usage_details(inner)
    )
    outer.set_resolved_model(inner.model.model_id)


def usage_details(inner: _BaseResponse) -> dict[str, Any] | None:
    """The model's token details, with the tools that the service ran and charges for by the call.

    Anthropic and Gemini count them there themselves, and the rest is in this form, too.
    """
    details: dict[str, Any] | None = inner.token_details
    if context := price_context(inner.prompt.options):
        details = context | (details or {})
    tools = "server_tool_use"
    if gemini.is_gemini(inner.model.model_id) or tools in (details or {}):
        return details
    calls = Counter(
        f"{event.chunk}_requests"
        for event in inner._stream_events
        if event.type == "tool_call_name" and event.server_executed
    )
    return {**(details or {}), tools: dict(calls)} if calls else details


def price_context(options: Any) -> dict[str, str]:
    """What the options of OpenAI's and Anthropic's models say about the price of a request."""
    tier = getattr(options, "service_tier", None)
    context = {"service_tier": str(getattr(tier, "value", tier))} if tier else {}
    return context | ({"speed": "fast"} if getattr(options, "fast", None) is True else {})


def text_of(events: Iterable[StreamEvent]) -> str:
    """The text of the answer itself, without reasoning."""
    return "".join(event.chunk for event in events if event.type == "text")


def last_user_text(prompt: llm.Prompt) -> str:
    """The text of the user's last message, also within a tool loop."""
    for message in reversed(instructions.as_sent(prompt)):
        if message.role == "user":
            return _text(message)
    return ""


def inner_options(
    inner: _BaseModel, tier_options: Mapping[str, Any], requested: Mapping[str, Any]
) -> llm.Options:
    """The inner model's options: the tier's, overridden by those of the request.

    Sampling options, and any others of the request, are left out if the model does not have them:
    the request may be answered by models of several plugins. `max_tokens` is the length of the
    answer, so that a model which counts its thoughts as output gets room for them; an option by
    the model's own name is left as it is. Raises pydantic.ValidationError if the tier's options
    are wrong for the model.
    """
    values: dict[str, Any] = {}
    limit = None
    for name, value in (*tier_options.items(), *requested.items()):
        if known := spelling(name, inner):
            values[known] = value
            if name in SAMPLING["max_tokens"]:
                limit = known if name == "max_tokens" else None
        elif name not in SAMPLING and name not in requested:
            values[name] = value
    options = inner.Options(**values)
    if limit is None or (tokens := getattr(options, limit)) is None:
        return options
    return options.model_copy(update={limit: with_room(tokens, options)})


def left_out(inner: _BaseModel, requested: Mapping[str, Any]) -> list[str]:
    """The names of the options of a request that the model does not have."""
    return [name for name in requested if spelling(name, inner) is None]


def max_tokens(options: llm.Options) -> int | None:
    """The limit of output tokens in a model's options, or None if none is set.

    To Ollama, a number below 0 is no limit.
    """
    limits = (getattr(options, name, None) for name in SAMPLING["max_tokens"])
    return next((limit for limit in limits if limit and limit > 0), None)


def _prompt(
    prompt: llm.Prompt, inner: _BaseModel, options: llm.Options, more: Sequence[llm.Message]
) -> llm.Prompt:
    messages = instructions.as_sent(prompt, more)
    if gemini.wants_signatures(inner.model_id):
        messages = gemini.with_signatures(messages)
    asked = any(message.role != "system" for message in prompt.messages)
    return llm.Prompt(
        # Some plugins read the prompt instead of the messages, and Gemini's the system prompt.
        prompt._prompt if asked else _text(messages[-1]),
        model=inner,
        fragments=prompt.fragments,
        attachments=prompt.attachments,
        system=instructions.in_force(messages) or None,
        schema=prompt.schema,
        tools=prompt.tools,
        tool_results=prompt.tool_results,
        messages=messages,
        options=options,
        hide_reasoning=prompt.hide_reasoning,
    )


def _text(message: llm.Message) -> str:
    return "\n".join(part.text for part in message.parts if isinstance(part, TextPart))


def _shadow(conversation: _BaseConversation | None, prompt: llm.Prompt, inner: _BaseModel) -> Any:
    """A copy of the conversation for the inner model, since only the outer one records turns."""
    if conversation is None:
        return None
    responses = responses_before(conversation, prompt, inner)
    return dataclasses.replace(conversation, model=inner, responses=responses)
