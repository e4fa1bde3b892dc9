"""What is asked → the response of a model, not started yet; and who answers, once that is known."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import llm
from llm.cli import get_model_options
from llm.parts import ToolCallPart

from ..config.settings import load_settings
from ..config.terms import strictest
from ..log import private, writer
from ..log.record import Record
from ..log.threads import find_thread
from ..router.inner import left_out
from ..router.request import prepare
from . import fields, privacy
from .failure import NO_RETRY, ApiError, bad_request
from .stop import Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..config.terms import Kept
    from ..log.record import Attempt
    from ..router.request import TieredRequest
    from .fields import Asked, Chat
    from .offers import Offer, Offers

# Seconds for which a request waits for others that come with it.
_GATHERING = 0.003

# Longest text in a header, in characters.
_LONGEST = 300


@dataclass
class ChatRequest:
    """A response that is not started yet. `routed` is its decision; None for a local model."""

    chat: Chat
    asked: Asked
    response: llm.AsyncResponse
    routed: TieredRequest | None

    @property
    def attempts(self) -> list[Attempt]:
        """The attempts so far."""
        return self.routed.attempts if self.routed else []

    @property
    def tier(self) -> str | None:
        """The tier whose model answers, or is trying to; None for a local model."""
        return self._who[0]

    @property
    def model(self) -> str:
        """The id of the model that answers, or is trying to."""
        return self._who[1]

    @property
    def _who(self) -> tuple[str | None, str]:
        routed = self.routed
        if routed is None:
            return None, self.response.model.model_id
        if routed.attempts and routed.attempts[-1].outcome == "ok":
            return routed.attempts[-1].tier, routed.attempts[-1].model
        tried = {attempt.model for attempt in routed.attempts}
        waiting = (each for each in routed.candidates if each.model not in tried)
        current = next(waiting, routed.candidates[-1])
        return current.tier, current.model

    @property
    def kept(self) -> Kept | None:
        """Where the conversation has to stay from now on, if anywhere."""
        return self.routed.decision.kept if self.routed else self.asked.kept

    def headers(self) -> dict[str, str]:
        """Return who answers, and why, as headers."""
        headers = {"x-tiered-model": self.model, "x-tiered-turn": self.response.id}
        if self.routed:
            decision = self.routed.decision
            failed = [each for each in self.attempts if each.outcome != "ok"]
            headers |= {
                "x-tiered-tier": self.tier or "",
                "x-tiered-source": decision.source,
                "x-tiered-reason": decision.reason,
            }
            if decision.complexity is not None:
                headers["x-tiered-complexity"] = str(decision.complexity)
            if failed:
                reasons = (f"{each.model} {each.outcome}: {each.reason}" for each in failed)
                headers["x-tiered-fallback"] = "; ".join(reasons)
        if ignored := self._ignored():
            headers["x-tiered-ignored"] = ", ".join(ignored)
        return {name: _header(value) for name, value in headers.items()}

    def _ignored(self) -> list[str]:
        """The fields without a meaning, and the options that the answering model does not have."""
        if self.routed is None:
            return self.asked.ignored
        model: Any = self.response.model
        registry = model.registry
        if self.model not in registry:
            return self.asked.ignored
        lacking = left_out(registry.get(self.model), self.routed.requested)
        # Answers are ended at stop strings here.
        return sorted({*self.asked.ignored, *lacking} - {"stop"})


async def ask(
    read: Callable[[], Chat], headers: Iterable[tuple[str, str]], offers: Offers, *, is_short: bool
) -> ChatRequest:
    """Return what a request asks, which is what `read` returns; `is_short` says that it is quick.

    Raises ApiError, TieredError or pydantic.ValidationError.
    """
    chat = read() if is_short else None
    if chat and _needs_no_look_up(chat, offers):
        # A change of threads would take longer.
        request = _ask(chat, headers, offers)
        # Those that come together go to the engine together, which reads them together: otherwise
        # the first one would be read alone, and the others would wait for that.
        await asyncio.sleep(_GATHERING)
        return request
    # A large body, the log and the config take their time, in which other answers go on.
    return await asyncio.to_thread(lambda: _ask(chat or read(), headers, offers))


def _needs_no_look_up(chat: Chat, offers: Offers) -> bool:
    """Return whether a request begins a conversation with a local model that is known."""
    name, messages = chat.body.get("model"), chat.body.get("messages")
    offer = offers.known(name) if isinstance(name, str) else None
    if offer is None or offer.is_tiered or chat.previous or not isinstance(messages, list):
        return False
    return all(isinstance(each, dict) and each.get("role") != "assistant" for each in messages)


def _ask(chat: Chat, headers: Iterable[tuple[str, str]], offers: Offers) -> ChatRequest:
    name = chat.body.get("model")
    if not isinstance(name, str):
        raise bad_request("model: expected the name of a model", "model")
    offer = offers.find(name)
    asked = fields.read(chat, headers, offer.known_options())
    turns = asked.turns
    # With other instructions, it is another conversation only for who compares all its messages.
    before = chat.previous or turns.history
    thread = find_thread(before)
    kept = strictest(thread.kept, private.PRIVATE.kept(before))
    options = _options(offer, asked, kept)
    try:
        response: llm.AsyncResponse = offer.model.prompt(
            turns.text,
            messages=turns.history,
            attachments=turns.attachments,
            tool_results=turns.tool_results,
            schema=asked.schema,
            tools=asked.tools,
            options=options,
        )
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        # llm's words for what a model does not support.
        message = str(error).replace(str(offer.model), offer.model.model_id)
        raise bad_request(message, code="unsupported") from None
    if thread.thread_id:
        response.conversation = llm.AsyncConversation(
            offer.model, id=thread.thread_id, loaded_messages=turns.history
        )
    return ChatRequest(chat, asked, response, prepare(response) if offer.is_tiered else None)


async def finish(request: ChatRequest) -> None:
    """Keep a finished answer: `tiered` logs its own, but local models do not.

    Raises ApiError if it lacks the call that is asked for.
    """
    if kept := request.kept:
        answer = llm.assistant(shown_text(request), *_calls(request.response))
        private.PRIVATE.add([*request.response.prompt.messages, answer], kept)
    if kept and request.routed is None:
        # Local models' own records don't say so, and the server may have ended when it matters.
        record = Record(local_only=kept == "here", private=kept == "own")
        own = request.response.response_json
        request.response.response_json = record.to_json(own)
    if request.routed is None and writer.must_log(log_api=load_settings().config.log_api):
        await writer.write_async(request.response)
    if request.asked.must_call and not request.response._tool_calls:
        message = f"{request.model} called no tool, though tool_choice asks for it"
        raise ApiError(502, message, code="no_tool_call", headers=NO_RETRY)


def _calls(response: llm.AsyncResponse) -> list[ToolCallPart]:
    return [ToolCallPart(call.name, call.arguments) for call in response._tool_calls]


def _options(offer: Offer, asked: Asked, kept: Kept | None) -> dict[str, Any]:
    """The options that the user has stored, those of the request, and those of the model's name."""
    stored = get_model_options(offer.model.model_id)
    options = stored | asked.options
    for name, value in offer.options.items():
        if asked.options.get(name, value) != value:
            raise bad_request(f"{name}: the model's name says {value!r}", name)
        options[name] = value
    if not offer.is_tiered:
        return options
    # Each of them is enough, and none can undo another.
    kept = strictest(kept, asked.kept, offer.kept)
    return options | {name: True for name, each in privacy.FIELDS.items() if each == kept}


def shown_text(request: ChatRequest) -> str:
    """Return the text of a finished answer as the client gets it."""
    stop = Stop(request.asked.stop)
    return stop.take(request.response.text_or_raise()) + stop.rest()


def _header(value: str) -> str:
    line = " ".join(value.split())
    short = line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."
    return short.encode("ascii", "replace").decode()
