"""llm's prompt → the body of a request for a chat completion.

Only fields that all servers take, or ignore alike: `max_tokens` and not `max_completion_tokens`,
`response_format` and not a server's own field.
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

    The answer is always streamed: so a silent server can be told from a slow one, and a request
    that nobody waits for any more ends on the server, too.
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
    # Some servers refuse them with tools, and what a schema forces on a model says nothing of it.
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
    """Return what stands for the part of the prompt that a server may have read before.

    It is how the conversation began, which is the same at all its turns and for all processes;
    the first turn has no id yet.
    """
    opening: list[Any] = []
    for message in prompt.messages:
        opening.append(message.to_dict())
        if message.role == "user":
            break
    return hashlib.sha256(repr(opening).encode("utf-8", "surrogatepass")).hexdigest()
