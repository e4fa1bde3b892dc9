"""Tool calls, put together from their pieces in a stream."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import llm

from ..errors import IncompleteAnswer
from .problems import unexpected

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class _Call:
    id: str | None
    name: str
    arguments: str


class ToolCallDeltas:
    """Puts tool calls together from the pieces in which they come."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_index: dict[Any, _Call] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def take(self, deltas: Any) -> None:
        """Take the pieces in one chunk.

        Each belongs to the call with its index. Some servers number all calls 0 and send each as
        one piece with a name; others leave the index out.
        """
        for delta in deltas if isinstance(deltas, list) else [deltas]:
            index, id_, name, arguments = _piece(delta)
            call = self._by_index.get(index)
            if call is None or (name and (index is None or (id_ and id_ != call.id))):
                call = _Call(id_, "", "")
                self._calls.append(call)
                self._by_index[index] = call
            call.id = call.id or id_
            # Some servers repeat the name with each piece.
            call.name = call.name or name or ""
            call.arguments += arguments

    def whole(self) -> Iterator[llm.ToolCall]:
        """Yield the calls.

        Raises IncompleteAnswer if one has no name, or arguments that are not an object.
        """
        for call in self._calls:
            if not call.name:
                raise IncompleteAnswer("one of its tool calls has no name")
            yield llm.ToolCall(
                name=call.name, arguments=_parsed(call), tool_call_id=call.id or None
            )


def _piece(delta: Any) -> tuple[int | None, str | None, str | None, str]:
    """The index, the id, the name and the arguments in a piece."""
    function = delta.get("function") or {} if isinstance(delta, dict) else None
    if not isinstance(function, dict):
        raise unexpected(delta, "a tool call")
    index, id_, name = delta.get("index"), delta.get("id"), function.get("name")
    arguments = function.get("arguments") or ""
    return (
        index if isinstance(index, int) else None,
        None if id_ is None else str(id_),
        name if isinstance(name, str) else None,
        arguments if isinstance(arguments, str) else json.dumps(arguments),
    )


def _parsed(call: _Call) -> dict[str, Any]:
    try:
        arguments = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        name = call.name or "a tool"
        raise IncompleteAnswer(f"the arguments of its call of {name} are not a JSON object")
    return arguments
