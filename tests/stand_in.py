"""A stand-in for a model of llm, sync and async, that does what a test's script says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeAlias

import llm
from llm.parts import StreamEvent

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

# Text and events are put out, tools called, errors raised, functions called. Only the async
# stand-in can await text.
Action: TypeAlias = (
    "str | StreamEvent | llm.ToolCall | Exception | Callable[[], None] | Awaitable[str]"
)
# Prompt and response → one action after another.
Script: TypeAlias = "Callable[[llm.Prompt, Any], Generator[Action, None, None]]"


class Options(llm.Options):
    """Options that a stand-in accepts and ignores."""

    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    seed: int | None = None


# The features of `tiered`, which accepts any attachment.
AS_TIERED: dict[str, Any] = {
    "supports_schema": True,
    "supports_tools": True,
    "_validate_attachments": lambda attachments=None: None,
}


def say_id(prompt: llm.Prompt, response: Any) -> Generator[Action, None, None]:
    """Answer with the model's id."""
    yield prompt.model.model_id


class _StandIn:
    """What the sync and the async stand-in share.

    `features` become attributes of the model, such as `supports_tools`.
    """

    can_stream = True
    Options = Options

    def __init__(self, model_id: str, script: Script = say_id, **features: Any) -> None:
        self.model_id = model_id
        self._script = script
        vars(self).update(features)

    def _actions(self, prompt: llm.Prompt, response: Any) -> Iterator[Action]:
        with closing(self._script(prompt, response)) as actions:
            for action in actions:
                if isinstance(action, Exception):
                    raise action
                if isinstance(action, llm.ToolCall):
                    response.add_tool_call(action)
                elif isinstance(action, (str, StreamEvent, Awaitable)):
                    yield action
                else:
                    action()


class StandIn(_StandIn, llm.Model):  # type: ignore[misc]  # llm declares Options as a nested class
    """The sync model."""

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None,
    ) -> Iterator[Any]:
        """Do what the script says."""
        yield from self._actions(prompt, response)


class AsyncStandIn(_StandIn, llm.AsyncModel):  # type: ignore[misc]  # as above
    """The async model."""

    async def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.AsyncResponse,
        conversation: llm.AsyncConversation | None,
    ) -> AsyncGenerator[Any, None]:
        """Do what the script says."""
        for action in self._actions(prompt, response):
            yield await action if isinstance(action, Awaitable) else action
