"""The objects of OpenAI's Responses API: a response, its items, and the parts of their content."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

# Each kind of text: the type of its item, and that of its part and its events.
KINDS = {"text": ("message", "output_text"), "reasoning": ("reasoning", "reasoning_text")}
_PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc"}


def response(  # noqa: PLR0913 - its fields
    id_: str,
    *,
    created: int,
    status: str,
    model: str,
    output: Sequence[dict[str, Any]],
    usage: dict[str, Any] | None,
    store: bool = True,
    previous: str | None = None,
) -> dict[str, Any]:
    """Return a response; `usage` is that of a chat completion, and `id_` that of its turn."""
    reason = {"reason": "max_output_tokens"} if status == "incomplete" else None
    return {
        "id": f"resp_{id_}",
        "object": "response",
        "created_at": created,
        "status": status,
        "error": None,
        "incomplete_details": reason,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": previous,
        "store": store,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": _usage(usage) if usage else None,
    }


def status(*, cut_off: bool) -> str:
    """Return the status of a response that has ended, which is that of its last text, too."""
    return "incomplete" if cut_off else "completed"


def item(kind: str, id_: str, number: int, **values: Any) -> dict[str, Any]:
    """Return an item of a turn, which is still to be filled."""
    id_ = f"{_PREFIXES[kind]}_{id_}_{number}"
    return {"id": id_, "type": kind, "status": "in_progress", **values}


def text_item(kind: str, id_: str, number: int) -> dict[str, Any]:
    """Return the item for a text or for thoughts, which are still to come."""
    more: dict[str, Any] = {"role": "assistant"} if kind == "text" else {"summary": []}
    return item(KINDS[kind][0], id_, number, content=[], **more)


def part(kind: str, text: str, tokens: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """Return a part of an item's content."""
    part: dict[str, Any] = {"type": KINDS[kind][1], "text": text}
    return part | ({"annotations": [], "logprobs": [*tokens]} if kind == "text" else {})


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    thoughts = usage["completion_tokens_details"]["reasoning_tokens"]
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": thoughts},
        "total_tokens": usage["total_tokens"],
    }
