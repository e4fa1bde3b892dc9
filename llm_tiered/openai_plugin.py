"""What is specific to llm's own plugin for OpenAI."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_PLUGIN = "llm.default_plugins.openai_models"

# The events that end a streamed reply of the Responses API which is not complete
# (https://platform.openai.com/docs/api-reference/responses-streaming).
_ENDS = ("response.incomplete", "response.failed")
_COMPLETED = "response.completed"


class FailedReply(Exception):
    """A service's error in place of an answer; `body` is what it says."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(str(body.get("message") or body.get("code")))
        self.body = body


def raise_for_failure(reply: Any) -> None:
    """Raise FailedReply if a reply of the Responses API is an error."""
    if isinstance(reply, dict) and reply.get("status") == "failed":
        error = reply.get("error")
        if isinstance(error, dict) and error:
            raise FailedReply(error)


def is_of_plugin(model: Any) -> bool:
    """Whether a model comes from llm's own plugin, or from one that builds on it."""
    return any(kind.__module__ == _PLUGIN for kind in type(model).mro())


def attentive(model: Any) -> Any:
    """Return a copy of a model of the plugin that reads all replies; others as they are.

    Of the Responses API, the plugin keeps a streamed reply only if it is complete: at the limit of
    tokens, or after a failure, neither the status is known nor the tokens, which are billed. A chat
    completion that is not streamed fails without usage, which some servers do not send.
    """
    kinds = {kind.__name__ for kind in type(model).mro()} if is_of_plugin(model) else set()
    responses, chat = kinds & {"Responses", "AsyncResponses"}, kinds & {"Chat", "AsyncChat"}
    if not (responses or chat) or "get_client" in vars(model):
        return model
    copied = copy.copy(model)

    def get_client(*args: Any, **kwargs: Any) -> Any:
        client = model.get_client(*args, **kwargs)
        asynchronous = kwargs.get("async_", False)
        if responses:
            _keep_ends(client.responses, asynchronous=asynchronous)
        else:
            _check_completions(client.chat.completions, asynchronous=asynchronous)
        return client

    copied.get_client = get_client
    return copied


def without_retries(model: Any) -> Any:
    """Return a copy of a model of the plugin that makes each request once; others as they are.

    The plugin's client makes a request that failed twice more by itself, whatever its service says
    of credit and quotas, and waits up to a minute each time.
    """
    if not is_of_plugin(model):
        return model
    copied = copy.copy(model)

    def get_client(*args: Any, **kwargs: Any) -> Any:
        client = model.get_client(*args, **kwargs)
        client.max_retries = 0
        return client

    copied.get_client = get_client
    return copied


def _keep_ends(responses: Any, *, asynchronous: bool) -> None:
    """Let a client's streams end as those of complete replies do, whose status says otherwise."""
    create = responses.create

    def keeping(**kwargs: Any) -> Any:
        reply = create(**kwargs)
        return _kept(reply) if kwargs.get("stream") else reply

    async def keeping_async(**kwargs: Any) -> Any:
        reply = await create(**kwargs)
        return _kept_async(reply) if kwargs.get("stream") else reply

    responses.create = keeping_async if asynchronous else keeping


def _check_completions(completions: Any, *, asynchronous: bool) -> None:
    """Let a client's chat completions have usage, and raise the errors that come in their place."""
    create = completions.create

    def checked(**kwargs: Any) -> Any:
        reply = create(**kwargs)
        return reply if kwargs.get("stream") else _with_usage(reply)

    async def checked_async(**kwargs: Any) -> Any:
        reply = await create(**kwargs)
        return reply if kwargs.get("stream") else _with_usage(reply)

    completions.create = checked_async if asynchronous else checked


def _with_usage(reply: Any) -> Any:
    # OpenRouter answers with an error and status 200.
    error = getattr(reply, "error", None)
    if isinstance(error, dict) and error:
        raise FailedReply(error)
    if reply.usage is None:
        from openai.types import CompletionUsage

        reply.usage = CompletionUsage.model_construct()
    return reply


def _kept(events: Any) -> Iterator[Any]:
    with events:
        for event in events:
            yield _renamed(event)


async def _kept_async(events: Any) -> AsyncIterator[Any]:
    async with events:
        async for event in events:
            yield _renamed(event)


def _renamed(event: Any) -> Any:
    if event.type == "error":
        # The plugin would overlook it.
        raise FailedReply({"code": event.code, "message": event.message})
    if event.type in _ENDS:
        event.type = _COMPLETED
    return event
