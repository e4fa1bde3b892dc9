"""Tool calls, put together from their pieces in a stream."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import llm

from ..errors import IncompleteAnswer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


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

    def take(self, deltas: Sequence[dict[str, Any]]) -> None:
        """Take the pieces in one chunk.

        Each belongs to the call with its index. Some servers number all calls 0 and send each as
        one piece with a name; others leave the index out.
        """
        for delta in deltas:
            function = delta.get("function") or {}
            index, id_, name = delta.get("index"), delta.get("id"), function.get("name")
            call = self._by_index.get(index)
            if call is None or (name and (index is None or (id_ and id_ != call.id))):
                call = _Call(id_, "", "")
                self._calls.append(call)
                self._by_index[index] = call
            call.id = call.id or id_
            # Some servers repeat the name with each piece.
            call.name = call.name or name or ""
            arguments = function.get("arguments")
            if isinstance(arguments, dict):
                arguments = json.dumps(arguments)
            call.arguments += arguments or ""

    def whole(self) -> Iterator[llm.ToolCall]:
        """Yield the calls. Raises IncompleteAnswer if the arguments of one are not an object."""
        for call in self._calls:
            yield llm.ToolCall(
                name=call.name, arguments=_parsed(call), tool_call_id=call.id or None
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
