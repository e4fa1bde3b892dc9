"""Tools in the form that chat templates expect, and the tool calls that models write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...json_schema import mismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import llm


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool, with arguments that fit the tool's schema."""

    name: str
    arguments: Mapping[str, Any]


def specification(tool: llm.Tool) -> dict[str, Any]:
    """Return a tool in the form that chat templates expect, which is that of OpenAI's API."""
    function = {
        "name": tool.name,
        "description": tool.description or "",
        "parameters": tool.input_schema or {"type": "object", "properties": {}},
    }
    return {"type": "function", "function": function}


def parse_call(
    parser: Callable[[str, Any], Any], text: str, specifications: Sequence[Mapping[str, Any]]
) -> ToolCall:
    """Return the tool call that a model wrote. `parser` is the one for the model's family.

    Raises ValueError, with a reason that the model can act on, if the text is not a tool call,
    the tool is not among the specifications, or the arguments don't fit the tool's schema.
    """
    try:
        call = parser(text, list(specifications))
    except Exception as error:
        raise ValueError(f"this is not a valid tool call: {error}") from None
    name = call.get("name") if isinstance(call, dict) else None
    arguments = call.get("arguments", {}) if isinstance(call, dict) else None
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise ValueError('a tool call needs a "name" and an object of "arguments"')
    schemas = {spec["function"]["name"]: spec["function"]["parameters"] for spec in specifications}
    if name not in schemas:
        raise ValueError(f"there is no tool {name!r}, only {_listed(schemas)}")
    _check_arguments(arguments, schemas[name])
    return ToolCall(name, arguments)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _check_arguments(arguments: dict[str, Any], schema: Mapping[str, Any]) -> None:
    """Raise ValueError if the arguments don't fit the schema."""
    try:
        problem = mismatch(arguments, schema)
    except ValueError:
        # The tool's own schema is wrong: leave it to the tool to reject its arguments.
        return
    if problem:
        raise ValueError(f"the arguments do not fit the tool's schema: {problem.message}")
