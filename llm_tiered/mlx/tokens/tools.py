"""Tools as chat templates take them, and the calls that models write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...json_schema import mismatch
from ..engine.requests import ToolCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import llm


def specification(tool: llm.Tool) -> dict[str, Any]:
    """A tool as chat templates take it, in the form that OpenAI's API made common."""
    function = {
        "name": tool.name,
        "description": tool.description or "",
        "parameters": tool.input_schema or {"type": "object", "properties": {}},
    }
    return {"type": "function", "function": function}


def parse(
    parser: Callable[[str, Any], Any], text: str, specifications: Sequence[Mapping[str, Any]]
) -> ToolCall:
    """The call that a model wrote; `parser` is the one of its family.

    Raises ValueError, with what is wrong in words for the model, if it is none, calls no tool
    of these, or has arguments that do not fit the tool's schema.
    """
    try:
        call = parser(text, list(specifications))
    except Exception as error:
        raise ValueError(f"this is not in the form of a tool call: {error}") from None
    name = call.get("name") if isinstance(call, dict) else None
    arguments = call.get("arguments", {}) if isinstance(call, dict) else None
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise ValueError('a tool call has a "name" and an object of "arguments"')
    schemas = {spec["function"]["name"]: spec["function"]["parameters"] for spec in specifications}
    if name not in schemas:
        raise ValueError(f"there is no tool {name!r}, only {_listed(schemas)}")
    _check(arguments, schemas[name])
    return ToolCall(name, arguments)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _check(arguments: dict[str, Any], schema: Mapping[str, Any]) -> None:
    try:
        problem = mismatch(arguments, schema)
    except ValueError:
        # A tool whose own schema is wrong: its function will say what it can't take.
        return
    if problem:
        raise ValueError(f"the arguments do not fit the tool: {problem.message}")
