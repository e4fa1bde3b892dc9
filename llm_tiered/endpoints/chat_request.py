"""The body of a request for a chat completion, made from llm's prompt.

It has only fields that all servers know or ignore, such as `max_tokens`, which more of them know
than `max_completion_tokens`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from . import messages

if TYPE_CHECKING:
    import llm

# The options that are fields of the API by the same name.
_FIELDS = ("temperature", "max_tokens", "top_p", "seed", "stop", "reasoning_effort")


def body(model: str, prompt: llm.Prompt) -> dict[str, Any]:
    """Return the body of the request; `model` is the server's name for the model.

    The answer is always streamed: that tells a silent server from a slow one, and when the client
    leaves, the server stops as well.
    """
    options: Any = prompt.options
    sent: dict[str, Any] = {
        **(options.model_extra or {}),
        "model": model,
        "messages": messages.as_sent(prompt.messages),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    sent |= {name: value for name in _FIELDS if (value := getattr(options, name)) is not None}
    if options.thinking is not None:
        arguments = sent.get("chat_template_kwargs") or {}
        sent["chat_template_kwargs"] = {"enable_thinking": options.thinking, **arguments}
    if prompt.tools:
        sent |= {"tools": [_tool(tool) for tool in prompt.tools], "tool_choice": "auto"}
    if prompt.schema:
        schema = {"name": "answer", "schema": prompt.schema}
        sent["response_format"] = {"type": "json_schema", "json_schema": schema}
    return sent | _logprobs(prompt, options)


def _logprobs(prompt: llm.Prompt, options: Any) -> dict[str, Any]:
    # Some servers refuse them with tools, and those of a schema say little.
    judged = options.judged and not prompt.tools and not prompt.schema
    if options.logprobs is None and not judged:
        return {}
    # Without a number, llama.cpp sends 20 alternatives, and with 0 not even the token itself.
    return {"logprobs": True, "top_logprobs": options.logprobs or 1}


def _tool(tool: Any) -> dict[str, Any]:
    function = {"name": tool.name, "parameters": tool.input_schema}
    if tool.description:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def prefix(prompt: llm.Prompt) -> str:
    """Return a hash of how the conversation began, which a server may have read before.

    It is the same for all turns and processes, unlike the id, which the first turn does not have.
    """
    opening: list[Any] = []
    for message in prompt.messages:
        opening.append(message.to_dict())
        if message.role == "user":
            break
    return hashlib.sha256(repr(opening).encode("utf-8", "surrogatepass")).hexdigest()
