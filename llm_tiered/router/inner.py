"""The outer request → a request of its own to the model that was picked."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeAlias

import llm
from llm.parts import TextPart

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from llm.models import _BaseConversation, _BaseModel, _BaseResponse
    from llm.parts import StreamEvent

Inner: TypeAlias = "llm.Model | llm.KeyModel"
AsyncInner: TypeAlias = "llm.AsyncModel | llm.AsyncKeyModel"

# What a request can say of sampling, with the names that models have for it, best first.
SAMPLING = {
    "temperature": ("temperature",),
    "max_tokens": ("max_tokens", "max_output_tokens", "max_completion_tokens"),
    "top_p": ("top_p",),
    "seed": ("seed",),
}


def respond(  # noqa: PLR0913 - each is a fact of the outer response that the inner one needs
    inner: Inner,
    prompt: llm.Prompt,
    options: llm.Options,
    *,
    stream: bool,
    conversation: llm.Conversation | None,
    key: str | None,
    more: Sequence[llm.Message] = (),
) -> llm.Response:
    """A response of the inner model to the outer prompt and `more` after it, not started yet."""
    shadow = _shadow(conversation, inner)
    return llm.Response(_prompt(prompt, inner, options, more), inner, stream, shadow, key)


def respond_async(  # noqa: PLR0913 - as above
    inner: AsyncInner,
    prompt: llm.Prompt,
    options: llm.Options,
    *,
    stream: bool,
    conversation: llm.AsyncConversation | None,
    key: str | None,
    more: Sequence[llm.Message] = (),
) -> llm.AsyncResponse:
    """Async counterpart of `respond`."""
    shadow = _shadow(conversation, inner)
    return llm.AsyncResponse(_prompt(prompt, inner, options, more), inner, stream, shadow, key)


def finish(outer: _BaseResponse, inner: _BaseResponse, tool_calls: list[llm.ToolCall]) -> None:
    """Hand on what the inner response learned, once it is done."""
    for call in tool_calls:
        outer.add_tool_call(call)
    outer.set_usage(
        input=inner.input_tokens, output=inner.output_tokens, details=inner.token_details
    )
    outer.set_resolved_model(inner.model.model_id)


def text_of(events: Iterable[StreamEvent]) -> str:
    """What the events say of the answer itself, without reasoning."""
    return "".join(event.chunk for event in events if event.type == "text")


def last_said(prompt: llm.Prompt) -> str:
    """The text of the user's last message: on the turns of a tool loop, too."""
    for message in reversed(prompt.messages):
        if message.role == "user":
            return "\n".join(part.text for part in message.parts if isinstance(part, TextPart))
    return ""


def inner_options(
    inner: _BaseModel, tier_options: Mapping[str, Any], requested: Mapping[str, Any]
) -> llm.Options:
    """The inner model's options: the tier's, overridden by the request's.

    What the request says of sampling and the model has no word for is left out. Raises
    pydantic.ValidationError where the tier's options are wrong for the model.
    """
    known = inner.Options.model_fields
    values: dict[str, Any] = {}
    for name, value in (*tier_options.items(), *requested.items()):
        spellings = [word for word in SAMPLING.get(name, (name,)) if word in known]
        if spellings:
            values[spellings[0]] = value
        elif name not in SAMPLING:
            values[name] = value
    return inner.Options(**values)


def _prompt(
    prompt: llm.Prompt, inner: _BaseModel, options: llm.Options, more: Sequence[llm.Message]
) -> llm.Prompt:
    messages = [*prompt.messages, *more]
    # Gemini reads the system prompt only from here. On later turns it stands only in the
    # messages, unless the turn has one of its own.
    system = "\n\n".join(
        part.text
        for message in messages
        if message.role == "system"
        for part in message.parts
        if isinstance(part, TextPart)
    )
    return llm.Prompt(
        prompt._prompt,
        model=inner,
        fragments=prompt.fragments,
        attachments=prompt.attachments,
        system=prompt.system or system or None,
        schema=prompt.schema,
        tools=prompt.tools,
        tool_results=prompt.tool_results,
        messages=messages,
        options=options,
        hide_reasoning=prompt.hide_reasoning,
    )


def _shadow(conversation: _BaseConversation | None, inner: _BaseModel) -> Any:
    """The conversation as the inner model should see it; the outer one records the turn."""
    if conversation is None:
        return None
    responses = list(conversation.responses)
    return dataclasses.replace(conversation, model=inner, responses=responses)
