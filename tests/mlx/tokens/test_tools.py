"""Tool calls of local models."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import llm
import pytest
from click.testing import CliRunner
from llm.cli import cli

from tests.chat_templates import CODER_TEMPLATE, QWEN2_TEMPLATE
from tests.mlx.calculator import Calculator
from tests.mlx.models import local_model
from tests.tiny_models import build

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mlx.scripted import Scripts

pytest_plugins = ("tests.mlx.scripted",)

QWEN2, QWEN3, PHI = "mlx/tools-qwen2", "mlx/tools-qwen3", "mlx/tools-phi3"
# Writes calls like Qwen3-Coder.
CODER = "mlx/tools-coder"

SYSTEM = "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
SECTION = """\
# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{"type": "function", "function": {"name": "double", "description": "Twice the number.", \
"parameters": {"properties": {"number": {"type": "integer"}}, "required": ["number"], \
"type": "object"}}}
</tools>

For each function call, return a json object with function name and arguments within \
<tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
"""
TURNS = """\
<|im_start|>user
2 * 2 and 2 * 5?<|im_end|>
<|im_start|>assistant
Let me see.
<tool_call>
{"name": "double", "arguments": {"number": 2}}
</tool_call>
<tool_call>
{"name": "double", "arguments": {"number": 5}}
</tool_call><|im_end|>
<|im_start|>user
<tool_response>
4
</tool_response>
<tool_response>
10
</tool_response><|im_end|>
<|im_start|>assistant
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of two models that support tools, and of one that does not."""
    root = tmp_path_factory.mktemp("tools")
    coder = build("qwen3", root / "coder", layers=1, context=2048)
    (coder / "chat_template.jinja").write_text(CODER_TEMPLATE)
    return {
        QWEN2: build("qwen2", root / "qwen2", layers=1, context=2048),
        QWEN3: build("qwen3", root / "qwen3", layers=1, context=2048),
        CODER: coder,
        PHI: build("phi3", root / "phi3", layers=1, context=2048),
    }


@pytest.fixture(autouse=True)
def _registered(folders: dict[str, Path], config_file: Path) -> None:
    """Add these models in the config, two of them as tiers."""
    models = [{"id": name, "path": str(path)} for name, path in folders.items()]
    tiers = [
        {"name": "small", "complexity": "1-5", "model": QWEN2},
        {"name": "medium", "complexity": "6-10", "model": PHI},
    ]
    config_file.write_text(json.dumps({"models": models, "tiers": tiers}))


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, llm.Model]:
    """The same models, as llm sees them."""
    return {name: local_model(folder, name) for name, folder in folders.items()}


def call(name: str, **arguments: Any) -> str:
    """Return a tool call as a model writes it."""
    body = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{body}\n</tool_call>"


@pytest.fixture
def calculator() -> Calculator:
    """A calculator that has not been called."""
    return Calculator()


def run(*arguments: str) -> str:
    """Run llm, and return its stdout."""
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("model", [QWEN2, QWEN3])
def test_parallel_calls(
    model: str, models: dict[str, llm.Model], scripts: Scripts, calculator: Calculator
) -> None:
    """All calls of an answer are made, and the template renders their results."""
    scripts.say("Let me see.\n", call("double", number=2), "\n", call("double", number=5))
    scripts.say("4 and 10.")
    chain = models[model].chain("2 * 2 and 2 * 5?", tools=calculator.tools)
    first, second = chain.responses()
    assert (first.text(), second.text()) == ("Let me see.\n", "4 and 10.")
    calls = first.tool_calls()
    assert [(each.name, each.arguments) for each in calls] == [
        ("double", {"number": 2}),
        ("double", {"number": 5}),
    ]
    assert len({each.tool_call_id for each in calls}) == 2
    assert calculator.numbers == [2, 5]
    section = f"{SYSTEM}\n\n{SECTION}" if model == QWEN2 else f"<|im_start|>system\n{SECTION}"
    assert scripts.prompts[1].replace("Let me see.\n\n", "Let me see.\n") == section + TURNS


async def test_async_calls(scripts: Scripts, calculator: Calculator) -> None:
    """An async model can call async tools."""

    async def triple(number: int) -> int:
        return 3 * number

    scripts.say(call("triple", number=2), call("double", number=2))
    scripts.say("6 and 4.")
    tools = [*calculator.tools, llm.Tool.function(triple)]
    chain = llm.get_async_model(QWEN3).chain("3 * 2 and 2 * 2?", tools=tools)
    texts = [await response.text() async for response in chain.responses()]
    assert texts == ["", "6 and 4."]
    results = "<tool_response>\n6\n</tool_response>\n<tool_response>\n4\n</tool_response>"
    assert results in scripts.prompts[1]


def test_markers_that_are_no_tokens(
    tmp_path: Path, scripts: Scripts, calculator: Calculator
) -> None:
    """A call is recognised by its text if the model has no tokens for the markers."""
    folder = build("phi3", tmp_path / "phi3", layers=1, context=2048)
    (folder / "chat_template.jinja").write_text(QWEN2_TEMPLATE)
    arguments = '"arguments": {"number": 3}}'
    scripts.say("Now: <to", "ol_c", 'all>{"name": "double", ', arguments, "</tool", "_call>")
    scripts.say("6.")
    model = local_model(folder, "mlx/tools-text")
    first, second = model.chain("2 * 3?", tools=calculator.tools).responses()
    assert (first.text(), second.text()) == ("Now: ", "6.")
    assert calculator.numbers == [3]


SPELLED = ('{"name": "note", "arguments": {"text": "a </', "tool_call", '> b"}}')
AS_A_TOKEN = ('{"name": "note", "arguments": {"text": "a </tool_call> b"}}',)
AS_TAGS = ("<function=note>\n<parameter=text>\na </tool_call> b\n</parameter>\n</function>",)


@pytest.mark.parametrize(
    ("model", "pieces"),
    [(QWEN2, SPELLED), (QWEN2, AS_A_TOKEN), (QWEN3, AS_A_TOKEN), (CODER, AS_TAGS)],
    ids=["spelled", "token", "Qwen3", "tags"],
)
def test_closing_tag_inside_a_string(
    model: str, pieces: tuple[str, ...], models: dict[str, llm.Model], scripts: Scripts
) -> None:
    """A call ends where it ends, not at a closing tag inside a string, in whatever tokens."""
    noted: list[str] = []

    def note(text: str) -> str:
        noted.append(text)
        return text

    first = ("<tool_call>", *pieces, "</tool_call>")
    scripts.say(*first, "\n", *first)
    scripts.say("Noted.")
    assert models[model].chain("Note it.", tools=[note]).text() == "Noted."
    assert noted == ["a </tool_call> b"] * 2
    # The prompt shows the model its calls and their results unchanged.
    assert scripts.prompts[1].count("a </tool_call> b") == 4


@pytest.mark.parametrize("model", [QWEN2, CODER])
def test_several_calls_in_one_block(
    model: str, models: dict[str, llm.Model], scripts: Scripts, calculator: Calculator
) -> None:
    """All calls between two markers are made."""
    written = {
        QWEN2: [f'{{"name": "double", "arguments": {{"number": {n}}}}}\n' for n in (1, 2)],
        CODER: [
            f"<function=double>\n<parameter=number>\n{n}\n</parameter>\n</function>\n"
            for n in (1, 2)
        ],
    }
    scripts.say("<tool_call>\n", *written[model], "</tool_call>")
    scripts.say("2 and 4.")
    assert models[model].chain("2 * 1 and 2 * 2?", tools=calculator.tools).text() == "2 and 4."
    assert calculator.numbers == [1, 2]


def test_optional_arguments_in_tags(models: dict[str, llm.Model], scripts: Scripts) -> None:
    """Arguments that a model writes as bare text reach Python with the annotated types."""
    received: list[Any] = []

    def search(query: str, limit: int | None = None, exact: bool = False) -> str:
        received.append((query, limit, exact))
        return "found"

    for limit in ("5", "null"):
        scripts.say(
            "<tool_call>\n<function=search>\n<parameter=query>\n2026\n</parameter>\n"
            f"<parameter=limit>\n{limit}\n</parameter>\n<parameter=exact>\nyes\n</parameter>\n"
            "</function>\n</tool_call>"
        )
        scripts.say("Found.")
        assert models[CODER].chain("Search.", tools=[search]).text() == "Found."
    assert received == [("2026", 5, True), ("2026", None, True)]


def test_any_other_arguments(models: dict[str, llm.Model], scripts: Scripts) -> None:
    """A function with **kwargs can be called without others and with any, but not with *args."""
    received: list[Any] = []

    def find(text: str, *words: str, **filters: str) -> str:
        received.append((text, words, filters))
        return "found"

    for others in ({}, {"colour": "red"}):
        scripts.say(call("find", text="a", **others))
        scripts.say("Found.")
        assert models[QWEN2].chain("Search.", tools=[find]).text() == "Found."
    assert received == [("a", (), {}), ("a", (), {"colour": "red"})]
    assert "filters" not in scripts.prompts[0]


def test_text_that_looks_like_a_call(models: dict[str, llm.Model], scripts: Scripts) -> None:
    """Without tools in the request, text that looks like a call is text."""
    scripts.say(call("double", number=2))
    assert models[QWEN2].prompt("2 * 2?").text() == call("double", number=2)


def test_toolbox(models: dict[str, llm.Model], scripts: Scripts) -> None:
    """The methods of a toolbox are tools."""

    class Notes(llm.Toolbox):
        def __init__(self, title: str) -> None:
            self.lines = [title]

        def add(self, line: str) -> str:
            """Write a line down."""
            self.lines.append(line)
            return "ok"

    notes = Notes("Einkäufe")
    scripts.say(call("Notes_add", line="Äpfel & „Birnen“"))
    scripts.say("Noted.")
    assert models[QWEN2].chain("Note apples.", tools=[notes]).text() == "Noted."
    assert notes.lines == ["Einkäufe", "Äpfel & „Birnen“"]


def test_registered_tool(scripts: Scripts) -> None:
    """`llm -T` adds a registered tool; the call and its result are logged."""
    scripts.say(call("llm_version"))
    scripts.say("That one.")
    assert run("-m", QWEN2, "-T", "llm_version", "Which llm?") == "That one.\n"
    [first, second] = json.loads(run("logs", "--json", "-n", "0"))
    assert [each["name"] for each in first["tool_calls"]] == ["llm_version"]
    [result] = second["tool_results"]
    assert f"<tool_response>\n{result['output']}\n</tool_response>" in scripts.prompts[1]


def test_functions(scripts: Scripts) -> None:
    """`llm --functions` adds Python functions as tools, and `--td` shows their calls."""
    code = 'def shout(text: str) -> str:\n    "Say it loudly."\n    return text.upper()\n'
    scripts.say(call("shout", text="hey"))
    scripts.say("Done.")
    assert run("-m", QWEN3, "--functions", code, "--td", "Shout hey.") == "Done.\n"
    assert "<tool_response>\nHEY\n</tool_response>" in scripts.prompts[1]


def test_tool_that_raises(models: dict[str, llm.Model], scripts: Scripts) -> None:
    """The error that a tool raises is its result."""

    def fail() -> str:
        raise ValueError("out of paper")

    scripts.say(call("fail"))
    scripts.say("It has no paper.")
    assert models[QWEN2].chain("Print.", tools=[fail]).text() == "It has no paper."
    assert "<tool_response>\nError: out of paper\n</tool_response>" in scripts.prompts[1]


def test_tool_schema_asks_no_network(
    models: dict[str, llm.Model], scripts: Scripts, calculator: Calculator, connections: list[Any]
) -> None:
    """A tool whose schema refers to a URL is called without fetching it."""
    schema = {"type": "object", "$ref": "http://127.0.0.1:9/schema.json"}
    tool = llm.Tool(name="double", input_schema=schema, implementation=calculator.double)
    scripts.say(call("double", number=2))
    scripts.say("4.")
    assert models[QWEN2].chain("2 * 2?", tools=[tool]).text() == "4."
    assert calculator.numbers == [2]
    assert connections == []


def test_model_without_tools(calculator: Calculator) -> None:
    """A model whose template does not support tools refuses them, as llm requires."""
    model = llm.get_model(PHI)
    assert not model.supports_tools
    with pytest.raises(ValueError, match="does not support tools"):
        model.prompt("2 * 2?", tools=calculator.tools)


def test_tiered_skips_models_without_tools(scripts: Scripts, calculator: Calculator) -> None:
    """`tiered` skips a tier without tools on every turn of a chain, and records it."""
    scripts.say(call("double", number=2))
    scripts.say("4.")
    chain = llm.get_model("tiered").chain(
        "2 * 2?", tools=calculator.tools, options={"complexity": 8, "fallback": "local"}
    )
    answers = list(chain.responses())
    assert [answer.text() for answer in answers] == ["", "4."]
    for answer in answers:
        details: Any = answer.response_json
        attempts = [
            (attempt["model"], attempt["outcome"], attempt["reason"])
            for attempt in details["tiered"]["attempts"]
        ]
        assert attempts == [(PHI, "skipped", "can't do tools"), (QWEN2, "ok", None)]


def test_conversation_continues_without_tools(scripts: Scripts) -> None:
    """A model without tools gets a conversation's earlier calls and results as text."""
    code = "def double(number: int) -> int:\n    return 2 * number\n"
    scripts.say("Wait. ", call("double", number=2))
    scripts.say("4.")
    scripts.say("Then 8.")
    run("-m", QWEN2, "--functions", code, "2 * 2?")
    assert run("-c", "-m", PHI, "And then?") == "Then 8.\n"
    assert scripts.prompts[2] == (
        "<|user|>\n2 * 2?<|end|>\n"
        '<|assistant|>\nWait. \n[called double with {"number": 2}]<|end|>\n'
        "<|user|>\n[double returned 4]<|end|>\n"
        "<|assistant|>\n4.<|end|>\n<|user|>\nAnd then?<|end|>\n<|assistant|>\n"
    )


def test_conversation_continues_with_tools(
    models: dict[str, llm.Model], scripts: Scripts, calculator: Calculator
) -> None:
    """A model with tools gets earlier calls as calls, even if the request has no tools."""
    for script in (call("double", number=2), "4.", "Then 8."):
        scripts.say(script)
    conversation = models[QWEN2].conversation()
    assert conversation.chain("2 * 2?", tools=calculator.tools).text() == "4."
    assert conversation.prompt("And then?").text() == "Then 8."
    assert call("double", number=2) in scripts.prompts[2]
    assert "<tool_response>\n4\n</tool_response>" in scripts.prompts[2]
