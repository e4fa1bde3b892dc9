"""The formats in which model families write tool calls between their markers.

mlx_lm has a parser for each format. The two most common ones are read here instead, because its
parsers for them lose what is needed: `qwen3_coder` guesses the types of values and keeps one of
several calls, `json_tools` rejects more than one call and raw line breaks.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .arguments import read_json, refuse_constant, typed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Schemas = Mapping[str, Mapping[str, Any]]
    Reader = Callable[[str, Schemas], list["WrittenCall"]]

# mlx_lm's other parsers of formats that have no types.
_UNTYPED = frozenset(("glm47", "laguna", "longcat", "minicpm5", "minimax_m2"))

# Where calls begin, in the formats whose parser in mlx_lm may lose one of several calls.
_AFTER_VALUE = r"(?:\A|</{0}arg_value>)\s*(?!<{0}arg_key>)[^<\s]"
_BEGINNINGS = {
    "function_gemma": r"call:\w+\{",
    "gemma4": r"call:[\w-]+\{",
    "glm47": _AFTER_VALUE.format(""),
    "kimi_k3": r"<\|open\|>call\s",
    "laguna": _AFTER_VALUE.format(""),
    "longcat": _AFTER_VALUE.format("longcat_"),
    "minimax_m2": "<invoke name=",
}
# Gemma's strings.
_STRING = re.compile(r'(<\|"\|>|<escape>).*?\1', re.DOTALL)

_FUNCTION = re.compile(r"\s*<function=([^<>\n]+)>")
_PARAMETER = re.compile(r"\s*<parameter=([^<>\n]+)>")
_END = re.compile(r"\s*</function>")
# A tag inside a value ends nothing: after one that does, only the next tag or nothing follows.
_CALL_END = r"</function>\s*(?:<function=|\Z)"
_VALUE_END = rf"</parameter>(?=\s*(?:<parameter=|{_CALL_END}))"


@dataclass(frozen=True)
class WrittenCall:
    """A tool call as a model wrote it, with arguments of any kind."""

    name: Any
    arguments: Any


@dataclass(frozen=True)
class CallFormat:
    """How a model family writes tool calls.

    `read` returns the calls in a text, given the schemas of the tools by name; it raises ValueError
    if it is not in this format. `is_inside_value` is whether a text ends within a value, where
    a marker is part of the value. `bare_start` is how a call of a tool begins, if models of this
    family are known to forget the marker before it.
    """

    read: Reader
    is_inside_value: Callable[[str], bool]
    bare_start: str = ""


def call_format(tokenizer: Any) -> CallFormat:
    """Return the format of a model that supports tools, by its mlx_lm tokenizer."""
    parser = tokenizer.tool_parser
    name = parser.__module__.rpartition(".")[2]
    return _FORMATS.get(name) or CallFormat(_reader(parser, name), lambda _: False)


def read_json_calls(text: str, _: Schemas) -> list[WrittenCall]:
    """Return the calls that a text holds as JSON: one object after the other, or lists of them."""
    decoder = json.JSONDecoder(strict=False, parse_constant=refuse_constant)
    calls: list[WrittenCall] = []
    rest = text.strip()
    while rest:
        try:
            value, end = decoder.raw_decode(rest)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        calls += [_json_call(call) for call in (value if isinstance(value, list) else [value])]
        rest = rest[end:].lstrip().removeprefix(",").lstrip()
    if not calls:
        raise ValueError("it is empty")
    return calls


def read_tagged_calls(text: str, schemas: Schemas) -> list[WrittenCall]:
    """Return the calls that a text holds as <function=…> with a <parameter=…> for each argument."""
    calls: list[WrittenCall] = []
    rest = text
    while rest.strip():
        start = _FUNCTION.match(rest)
        if start is None:
            raise ValueError(f"expected <function=name>, not {_beginning(rest)}")
        name, rest = start[1].strip(), rest[start.end() :]
        schema = schemas.get(name, {})
        arguments, rest = _tagged_arguments(rest, schema)
        calls.append(WrittenCall(name, typed(arguments, schema)))
    if not calls:
        raise ValueError("it is empty")
    return calls


def _tagged_arguments(text: str, schema: Mapping[str, Any]) -> tuple[dict[str, str], str]:
    """Return the arguments of a call as texts, and what follows the call."""
    arguments: dict[str, str] = {}
    while not (end := _END.match(text)):
        start = _PARAMETER.match(text)
        if start is None:
            raise ValueError(f"expected <parameter=name> or </function>, not {_beginning(text)}")
        name = start[1].strip()
        if name in arguments:
            raise ValueError(f"the parameter {name!r} is there twice")
        value_end = _value_end(schema, {*arguments, name}).search(text, start.end())
        if value_end is None:
            raise ValueError(f"the parameter {name!r} is not closed by </parameter>")
        value = text[start.end() : value_end.start()]
        arguments[name] = value.removeprefix("\n").removesuffix("\n")
        text = text[value_end.end() :]
    return arguments, text[end.end() :]


def _value_end(schema: Mapping[str, Any], given: set[str]) -> re.Pattern[str]:
    """Return a pattern for what ends a value.

    Models forget </parameter>: the end of the call ends a value too, and so does another of the
    tool's parameters on a line of its own.
    """
    properties = schema.get("properties")
    others = properties.keys() - given if isinstance(properties, dict) else ()
    starts = [rf"\n\s*<parameter={re.escape(name)}>" for name in sorted(others)]
    return re.compile("|".join([_VALUE_END, *(f"(?={end})" for end in (*starts, _CALL_END))]))


def _beginning(text: str) -> str:
    return repr(text.strip()[:40]) if text.strip() else "the end"


def _json_call(value: Any) -> WrittenCall:
    """Return the call in a JSON value.

    Some models write the arguments as a JSON string, or call them "parameters" as the tools do.
    """
    if not isinstance(value, dict):
        return WrittenCall(None, None)
    arguments = value.get("arguments", value.get("parameters"))
    if isinstance(arguments, str):
        arguments = read_json(arguments) if arguments.strip() else None
    return WrittenCall(value.get("name"), {} if arguments is None else arguments)


def _is_inside_json_string(text: str) -> bool:
    """Whether the last quotation mark of a text opens a string."""
    return re.sub(r"\\.", "", text, flags=re.DOTALL).count('"') % 2 == 1


def _is_inside_parameter(text: str) -> bool:
    return "<parameter=" in text and not text.rstrip().endswith(("</parameter>", "</function>"))


def _reader(parser: Callable[[str, Any], Any], name: str) -> Reader:
    """Return a reader that uses mlx_lm's parser for the format of this name."""

    def read(text: str, schemas: Schemas) -> list[WrittenCall]:
        declared = {tool: _strings(schema) for tool, schema in schemas.items()}
        specifications = [
            {"type": "function", "function": {"name": tool, "parameters": parameters}}
            for tool, parameters in (declared if name in _UNTYPED else schemas).items()
        ]
        if name == "longcat" and text.strip() in schemas:
            # Its parser fails without arguments.
            return [WrittenCall(text.strip(), {})]
        try:
            found = parser(text, specifications)
        except Exception as error:
            # Parsers fail in all kinds of ways on text that is not in their format.
            raise ValueError(str(error)) from None
        calls = [_json_call(call) for call in (found if isinstance(found, list) else [found])]
        _refuse_lost(text, name, len(calls))
        return [_retyped(call, schemas) for call in calls] if name in _UNTYPED else calls

    return read


def _refuse_lost(text: str, name: str, read: int) -> None:
    """Raise ValueError if more calls begin in a text than mlx_lm's parser has read."""
    begun = len(re.findall(_BEGINNINGS.get(name, r"(?!)"), _STRING.sub("", text)))
    if begun > read:
        raise ValueError(
            f"{begun} calls begin in it, and {read} of them can be read: close each of them, and "
            "write each between markers of its own"
        )


def _strings(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema with strings alone, for which a parser guesses no types."""
    properties = schema.get("properties")
    names = properties if isinstance(properties, dict) else ()
    return {"type": "object", "properties": {name: {"type": "string"} for name in names}}


def _retyped(call: WrittenCall, schemas: Schemas) -> WrittenCall:
    """Return a call with the types of the tool's schema for the arguments that are strings."""
    if not isinstance(call.name, str) or not isinstance(call.arguments, dict):
        return call
    # Some parsers read the word null as None, even for a string.
    words = {key: "null" if value is None else value for key, value in call.arguments.items()}
    strings = {key: value for key, value in words.items() if isinstance(value, str)}
    return replace(call, arguments=call.arguments | typed(strings, schemas.get(call.name, {})))


_FORMATS = {
    "json_tools": CallFormat(read_json_calls, _is_inside_json_string),
    "qwen3_coder": CallFormat(read_tagged_calls, _is_inside_parameter, "<function={}>"),
}
