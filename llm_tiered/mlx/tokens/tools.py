"""Tools in the form that chat templates expect, and the tool calls that models write."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import llm

    from .call_formats import CallFormat, WrittenCall


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool, with arguments that fit the tool's schema."""

    name: str
    arguments: Mapping[str, Any]


class UnreadableCall(ValueError):
    """A text is not in the format in which the model writes tool calls."""


def specification(tool: llm.Tool) -> dict[str, Any]:
    """Return a tool in the form that chat templates expect, which is that of OpenAI's API."""
    function = {
        "name": tool.name,
        "description": tool.description or "",
        "parameters": _parameters(tool),
    }
    return {"type": "function", "function": function}


def _parameters(tool: llm.Tool) -> dict[str, Any]:
    """Return the schema of a tool's arguments, without those that llm makes of *args and **kwargs.

    llm's schema requires an argument of that name, which Python would take for any other.
    """
    schema = tool.input_schema or {"type": "object", "properties": {}}
    catch_all = _catch_all(tool.implementation) & schema.get("properties", {}).keys()
    if not catch_all:
        return schema
    properties = {
        name: part for name, part in schema["properties"].items() if name not in catch_all
    }
    required = [name for name in schema.get("required", ()) if name not in catch_all]
    return schema | {"properties": properties, "required": required}


def _catch_all(function: Any) -> set[str]:
    """Return the names of a function's parameters that take any other arguments."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return set()
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {parameter.name for parameter in parameters if parameter.kind in kinds}


def parse_calls(
    call_format: CallFormat, text: str, specifications: Sequence[Mapping[str, Any]]
) -> list[ToolCall]:
    """Return the tool calls that a model wrote between two markers, at least one.

    Raises ValueError, with a reason that the model can act on, if the text is not in the model's
    format (UnreadableCall), a tool is not among the specifications, or arguments don't fit the
    tool's schema.
    """
    schemas = {spec["function"]["name"]: spec["function"]["parameters"] for spec in specifications}
    try:
        written = call_format.read(text, schemas)
    except ValueError as error:
        raise UnreadableCall(f"this is not a valid tool call: {error}") from None
    return [_checked(call, schemas) for call in written]


def _checked(call: WrittenCall, schemas: Mapping[str, Mapping[str, Any]]) -> ToolCall:
    """Return the call. Raises ValueError if there is no such tool or the arguments don't fit it."""
    if not isinstance(call.name, str) or not isinstance(call.arguments, dict):
        raise ValueError('a tool call needs a "name" and an object of "arguments"')
    if call.name not in schemas:
        raise ValueError(f"there is no tool {call.name!r}, only {_listed(schemas)}")
    try:
        # The call is logged, and goes back to the model with its result.
        json.dumps(call.arguments, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError) as error:
        raise ValueError(f"the arguments can't be written down: {error}") from None
    from .arguments import mended

    arguments = mended(call.arguments, schemas[call.name])
    _check_arguments(arguments, schemas[call.name])
    return ToolCall(call.name, arguments)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _check_arguments(arguments: dict[str, Any], schema: Mapping[str, Any]) -> None:
    """Raise ValueError if the arguments don't fit the schema."""
    from ...json_schema import mismatch

    try:
        problem = mismatch(arguments, schema)
    except ValueError:
        # The tool's own schema is wrong: leave it to the tool to reject its arguments.
        return
    if problem:
        where = f"the tool's schema at {problem.path}"
        raise ValueError(f"the arguments do not fit {where}: {problem.message}")
