"""Tool calls in the formats that models write: none is lost, and all become arguments that fit."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
from mlx_lm.tool_parsers import (
    function_gemma,
    glm47,
    json_tools,
    kimi_k2,
    longcat,
    minimax_m2,
    qwen3_coder,
)

from llm_tiered.mlx.tokens.call_formats import CallFormat, call_format
from llm_tiered.mlx.tokens.tools import ToolCall, parse_calls

SCHEMA = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "times": {"type": ["integer", "null"]}},
    "required": ["text"],
}
TOOLS = [
    {"type": "function", "function": {"name": "write", "description": "", "parameters": SCHEMA}},
    {
        "type": "function",
        "function": {"name": "stop", "description": "", "parameters": {"type": "object"}},
    },
]
STOP = ToolCall("stop", {})


def form(parser: Any) -> CallFormat:
    """Return the format that mlx_lm has this parser for."""
    return call_format(SimpleNamespace(tool_parser=parser.parse_tool_call))


JSON, TAGGED = form(json_tools), form(qwen3_coder)


def write(text: str, **more: Any) -> ToolCall:
    """Return a call of the first tool."""
    return ToolCall("write", {"text": text, **more})


def tagged(name: str, **arguments: str) -> str:
    """Return a call as Qwen3-Coder writes it."""
    parameters = [f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in arguments.items()]
    return f"<function={name}>\n{''.join(parameters)}</function>"


def as_json(text: str) -> str:
    """Return a call of the first tool as most models write it."""
    return json.dumps({"name": "write", "arguments": {"text": text}})


GOOD: dict[str, tuple[CallFormat, str, list[ToolCall]]] = {
    "json": (JSON, f"\n{as_json('a')}\n", [write("a")]),
    "json string": (
        JSON,
        json.dumps({"name": "write", "arguments": '{"text": "a\\nb"}'}),
        [write("a\nb")],
    ),
    "parameters": (JSON, '{"name": "write", "parameters": {"text": "a"}}', [write("a")]),
    "null": (JSON, '{"name": "stop", "arguments": null}', [STOP]),
    "no arguments": (JSON, '{"name": "stop"}', [STOP]),
    "empty string": (JSON, '{"name": "stop", "arguments": ""}', [STOP]),
    "null in a string": (JSON, '{"name": "stop", "arguments": "null"}', [STOP]),
    "raw line break": (
        JSON,
        '{"name": "write", "arguments": {"text": "a\n\tb"}}',
        [write("a\n\tb")],
    ),
    "closing tag": (JSON, as_json("</tool_call>"), [write("</tool_call>")]),
    "one after the other": (
        JSON,
        f'{as_json("a")}\n{as_json("b")}{{"name": "stop"}}',
        [write("a"), write("b"), STOP],
    ),
    "with commas": (JSON, f"{as_json('a')},\n{as_json('b')}", [write("a"), write("b")]),
    "a list": (JSON, f"[{as_json('a')}, {as_json('b')}]", [write("a"), write("b")]),
    "a list of one": (JSON, f"[{as_json('a')}]", [write("a")]),
    "tags": (TAGGED, f"\n{tagged('write', text='a')}\n", [write("a")]),
    "tags in one line": (
        TAGGED,
        "<function=write><parameter=text>a</parameter></function>",
        [write("a")],
    ),
    "no parameters": (TAGGED, "<function=stop>\n</function>", [STOP]),
    "several in tags": (
        TAGGED,
        "\n".join([tagged("write", text="a"), tagged("stop"), tagged("write", text="b")]),
        [write("a"), STOP, write("b")],
    ),
    "optional argument": (
        TAGGED,
        tagged("write", text="5", times="5"),
        [write("5", times=5)],
    ),
    "optional null": (
        TAGGED,
        tagged("write", text="null", times="null"),
        [write("null", times=None)],
    ),
    "lines": (TAGGED, tagged("write", text="\n a\n\nb \n"), [write("\n a\n\nb \n")]),
    "tags in a value": (
        TAGGED,
        tagged("write", text="a </parameter> </function> </tool_call> <function=x>"),
        [write("a </parameter> </function> </tool_call> <function=x>")],
    ),
    "the format in a value": (
        TAGGED,
        tagged("write", text=f"Like this:\n{tagged('x', y='z')}\nDone."),
        [write(f"Like this:\n{tagged('x', y='z')}\nDone.")],
    ),
    "parameters that are not closed": (
        TAGGED,
        "<function=write>\n<parameter=times>\n2\n<parameter=text>\na\n</function>\n"
        "<function=write>\n<parameter=text>b</function>\n<function=stop></function>",
        [write("a", times=2), write("b"), STOP],
    ),
    "a tag of another tool in a value": (
        TAGGED,
        tagged("write", text="Write\n<parameter=path>\nfirst."),
        [write("Write\n<parameter=path>\nfirst.")],
    ),
    "a list for one call": (
        form(kimi_k2),
        'functions.write:0<|tool_call_argument_begin|>{"text": "a"}',
        [write("a")],
    ),
    "several of another format": (
        form(kimi_k2),
        "".join(
            f'<|tool_call_begin|>functions.write:{i}<|tool_call_argument_begin|>{{"text": "{i}"}}'
            "<|tool_call_end|>"
            for i in range(2)
        ),
        [write("0"), write("1")],
    ),
    "another format": (
        form(glm47),
        "write<arg_key>text</arg_key><arg_value>5</arg_value>"
        "<arg_key>times</arg_key><arg_value>5</arg_value>",
        [write("5", times=5)],
    ),
    "no arguments in another format": (form(longcat), "stop", [STOP]),
    "a second call in a value": (
        form(function_gemma),
        "call:write{text:<escape>call:stop{<escape>}",
        [write("call:stop{")],
    ),
    "another format without types": (
        form(minimax_m2),
        '<invoke name="write"><parameter name="text">null</parameter>'
        '<parameter name="times">null</parameter></invoke>\n'
        '<invoke name="write"><parameter name="text">5</parameter>'
        '<parameter name="times">5</parameter></invoke>',
        [write("null", times=None), write("5", times=5)],
    ),
}

BAD: dict[str, tuple[CallFormat, str, str]] = {
    "nothing": (JSON, " \n", "it is empty"),
    "an empty list": (JSON, "[]", "it is empty"),
    "half a call": (JSON, as_json("a")[:-4], "Unterminated string"),
    "a call and half a call": (JSON, as_json("a") + as_json("a")[:-1], "delimiter"),
    "text after a call": (JSON, as_json("a") + " done", "Expecting value"),
    "a string": (JSON, '"write"', 'needs a "name"'),
    "no name": (JSON, "[{}]", 'needs a "name"'),
    "a list as the arguments": (JSON, '{"name": "stop", "arguments": []}', 'object of "arg'),
    "bad JSON as the arguments": (JSON, '{"name": "stop", "arguments": "a"}', "Expecting value"),
    "NaN": (JSON, '{"name": "stop", "arguments": {"a": NaN}}', "NaN is not JSON"),
    "half a character": (JSON, as_json("a").replace('a"}', '\\ud83d"}'), "can't be written down"),
    "deep": (JSON, '{"name":' * 100_000, "nested too deeply"),
    "unknown": (JSON, '{"name": "a"}', "there is no tool 'a', only 'write', 'stop'"),
    "one of two": (JSON, as_json("a") + '{"name": "write"}', "'text' is a required property"),
    "no tags": (TAGGED, "write it", "expected <function=name>, not 'write it'"),
    "nothing in tags": (TAGGED, "\n", "it is empty"),
    "half a parameter": (
        TAGGED,
        "<function=write>\n<parameter=text>\na",
        "the parameter 'text' is not closed by </parameter>",
    ),
    "no end": (
        TAGGED,
        "<function=write>\n<parameter=text>\na\n</parameter>\n",
        "'text' is not closed",
    ),
    "no end without parameters": (TAGGED, "<function=stop>\n", "</function>, not the end"),
    "no parameter tag": (TAGGED, "<function=write>\na</function>", "not 'a</function>'"),
    "twice": (
        TAGGED,
        "<function=write><parameter=text>a</parameter><parameter=text>b</parameter></function>",
        "the parameter 'text' is there twice",
    ),
    "text after tags": (TAGGED, f"{tagged('stop')} done", "expected <function=name>, not 'done'"),
    "no number": (TAGGED, tagged("write", text="a", times="few"), "'few' is not of type"),
    "two in one": (
        form(glm47),
        "write<arg_key>text</arg_key><arg_value>a</arg_value>\nstop",
        "2 calls begin in it, and 1 of them can be read",
    ),
    "two in one, of another format": (form(function_gemma), "call:stop{}call:stop{}", "2 calls"),
    "one of two in another format": (
        form(minimax_m2),
        '<invoke name="stop"></invoke><invoke name="write"><parameter name="text">a',
        "2 calls",
    ),
    "not of another format": (form(kimi_k2), "write", "No tool call found"),
}


def test_every_call_is_read() -> None:
    """All calls in a text are read, with the arguments that the model meant."""
    wrong = {}
    for case, (written, text, expected) in GOOD.items():
        try:
            calls: Any = parse_calls(written, text, TOOLS)
        except ValueError as error:
            calls = error
        if calls != expected:
            wrong[case] = calls
    assert wrong == {}


@pytest.mark.parametrize("case", BAD)
def test_bad_calls(case: str) -> None:
    """A text that is not a call, or a wrong one, is an error that says what is wrong."""
    written, text, reason = BAD[case]
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse_calls(written, text, TOOLS)


def test_markers_inside_values() -> None:
    """It is known at every place of a call whether it is inside a value, where no marker counts."""
    text = as_json('a "b" \\ </tool_call> c')
    inside = [JSON.is_inside_value(text[:end]) for end in range(len(text))]
    start = text.index("a \\")
    assert all(inside[start : text.index('"}}')])
    assert not inside[0]
    assert not JSON.is_inside_value(text)
    text = tagged("write", text="a </tool_call> b", times="1")
    assert TAGGED.is_inside_value(text[: text.index("</tool")])
    assert not TAGGED.is_inside_value(text[: text.index("<parameter=times")])
    assert not TAGGED.is_inside_value(f"{text}\n")
    assert not TAGGED.is_inside_value("<function=stop>\n")
