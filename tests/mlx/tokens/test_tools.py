"""Tools, as llm calls them for local models, and the calls that models write."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import llm
import pytest
from click.testing import CliRunner
from llm.cli import cli

from llm_tiered.errors import EngineError
from llm_tiered.mlx.catalog import ModelSpec
from llm_tiered.mlx.engine.requests import Limits
from llm_tiered.mlx.models import MlxModel
from tests.tiny_models import build

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mlx.scripted import Scripts

pytest_plugins = ("tests.mlx.scripted",)

QWEN2, QWEN3, PHI = "mlx/tools-qwen2", "mlx/tools-qwen3", "mlx/tools-phi3"

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
    """Give two models that know tools, and one that does not."""
    root = tmp_path_factory.mktemp("tools")
    return {
        QWEN2: build("qwen2", root / "qwen2", layers=1, context=2048),
        QWEN3: build("qwen3", root / "qwen3", layers=1, context=2048),
        PHI: build("phi3", root / "phi3", layers=1, context=2048),
    }


@pytest.fixture(autouse=True)
def _registered(folders: dict[str, Path], config_file: Path) -> None:
    """Let the config name them, and two be tiers."""
    models = [{"id": name, "path": str(path)} for name, path in folders.items()]
    tiers = [
        {"name": "small", "complexity": "1-5", "model": QWEN2},
        {"name": "medium", "complexity": "6-10", "model": PHI},
    ]
    config_file.write_text(json.dumps({"models": models, "tiers": tiers}))


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, llm.Model]:
    """Give them as llm's models. To ask llm for one takes it a tenth of a second."""
    specs = [ModelSpec(model_id=name, path=folder) for name, folder in folders.items()]
    return {spec.model_id: MlxModel(spec, Limits, lambda _: None) for spec in specs}


def call(name: str, **arguments: Any) -> str:
    """What a model writes to call a tool."""
    written = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{written}\n</tool_call>"


class Calculator:
    """A tool, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def double(self, number: int) -> int:
        """Twice the number."""
        self.asked.append(number)
        return 2 * number

    @property
    def tools(self) -> list[Any]:
        """The tools as llm takes them."""
        return [llm.Tool.function(self.double)]


@pytest.fixture
def calculator() -> Calculator:
    """A calculator that nobody has asked."""
    return Calculator()


def run(*arguments: str) -> str:
    """Run llm, and give what it printed."""
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("model", [QWEN2, QWEN3])
def test_parallel_calls(
    model: str, models: dict[str, llm.Model], scripts: Scripts, calculator: Calculator
) -> None:
    """All calls of an answer are made, and their results come back as the template wants them."""
    scripts.say("Let me see.\n", call("double", number=2), "\n", call("double", number=5))
    scripts.say("4 and 10.")
    chain = models[model].chain("2 * 2 and 2 * 5?", tools=calculator.tools)
    first, second = chain.responses()
    assert (first.text(), second.text()) == ("Let me see.\n", "4 and 10.")
    calls = first.tool_calls()
    assert [(made.name, made.arguments) for made in calls] == [
        ("double", {"number": 2}),
        ("double", {"number": 5}),
    ]
    assert len({made.tool_call_id for made in calls}) == 2
    assert calculator.asked == [2, 5]
    section = f"{SYSTEM}\n\n{SECTION}" if model == QWEN2 else f"<|im_start|>system\n{SECTION}"
    assert scripts.read[1].replace("Let me see.\n\n", "Let me see.\n") == section + TURNS


async def test_async_calls(scripts: Scripts, calculator: Calculator) -> None:
    """An async model calls async tools too."""

    async def triple(number: int) -> int:
        return 3 * number

    scripts.say(call("triple", number=2), call("double", number=2))
    scripts.say("6 and 4.")
    tools = [*calculator.tools, llm.Tool.function(triple)]
    chain = llm.get_async_model(QWEN3).chain("3 * 2 and 2 * 2?", tools=tools)
    texts = [await response.text() async for response in chain.responses()]
    assert texts == ["", "6 and 4."]
    told = "<tool_response>\n6\n</tool_response>\n<tool_response>\n4\n</tool_response>"
    assert told in scripts.read[1]


def test_call_in_pieces(
    models: dict[str, llm.Model], scripts: Scripts, calculator: Calculator
) -> None:
    """A call is found although the model writes its markers in several tokens."""
    arguments = '"arguments": {"number": 3}}'
    scripts.say("Now: <to", "ol_c", 'all>{"name": "double", ', arguments, "</tool", "_call>")
    scripts.say("6.")
    first, second = models[QWEN2].chain("2 * 3?", tools=calculator.tools).responses()
    assert (first.text(), second.text()) == ("Now: ", "6.")
    assert calculator.asked == [3]


def test_text_that_looks_like_a_call(models: dict[str, llm.Model], scripts: Scripts) -> None:
    """Where no tools are offered, what looks like a call is text."""
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
    """`llm -T` offers a registered tool; the call and its result are logged."""
    scripts.say(call("llm_version"))
    scripts.say("That one.")
    assert run("-m", QWEN2, "-T", "llm_version", "Which llm?") == "That one.\n"
    [asked, told] = json.loads(run("logs", "--json", "-n", "0"))
    assert [made["name"] for made in asked["tool_calls"]] == ["llm_version"]
    [result] = told["tool_results"]
    assert f"<tool_response>\n{result['output']}\n</tool_response>" in scripts.read[1]


def test_functions(scripts: Scripts) -> None:
    """`llm --functions` offers Python functions, with `--td` to show what they were asked."""
    code = 'def shout(text: str) -> str:\n    "Say it loudly."\n    return text.upper()\n'
    scripts.say(call("shout", text="hey"))
    scripts.say("Done.")
    assert run("-m", QWEN3, "--functions", code, "--td", "Shout hey.") == "Done.\n"
    assert "<tool_response>\nHEY\n</tool_response>" in scripts.read[1]


def test_tool_that_raises(models: dict[str, llm.Model], scripts: Scripts) -> None:
    """What a tool raises is its result."""

    def fail() -> str:
        raise ValueError("out of paper")

    scripts.say(call("fail"))
    scripts.say("It has no paper.")
    assert models[QWEN2].chain("Print.", tools=[fail]).text() == "It has no paper."
    assert "<tool_response>\nError: out of paper\n</tool_response>" in scripts.read[1]


BAD = {
    "no JSON": ("<tool_call>double it</tool_call>", "this is not a valid tool call"),
    "nothing": ("<tool_call></tool_call>", "this is not a valid tool call"),
    "a list": ("<tool_call>[1]</tool_call>", 'needs a "name"'),
    "no name": ('<tool_call>{"arguments": {}}</tool_call>', 'needs a "name"'),
    "arguments as a text": (
        '<tool_call>{"name": "double", "arguments": "{}"}</tool_call>',
        'object of "arguments"',
    ),
    "unknown tool": (call("triple", number=2), "there is no tool 'triple', only 'double'"),
    "wrong type": (call("double", number="two"), "'two' is not of type 'integer'"),
    "nothing given": (call("double"), "'number' is a required property"),
    "no arguments": ('<tool_call>{"name": "double"}</tool_call>', "'number' is a required"),
    "never closed": ('<tool_call>{"name": "double", "argum', "this is not a valid tool call"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_call_is_given_back(
    case: str, models: dict[str, llm.Model], scripts: Scripts, calculator: Calculator
) -> None:
    """A call that can't be made goes back to the model with the reason; it corrects itself."""
    written, reason = BAD[case]
    scripts.say(written)
    scripts.say(call("double", number=2))
    scripts.say("4.")
    chain = models[QWEN2].chain("2 * 2?", tools=calculator.tools)
    assert chain.text() == "4."
    assert reason in scripts.read[1]
    assert calculator.asked == [2]
    assert reason not in scripts.read[2]


def test_bad_call_counts(
    models: dict[str, llm.Model], scripts: Scripts, calculator: Calculator
) -> None:
    """The tokens of an answer are those of the bad call, too."""
    scripts.say(call("double", number="two"))
    scripts.say("4.")
    response = models[QWEN2].prompt("2 * 2?", tools=calculator.tools)
    assert response.text() == "4."
    usage = response.usage()
    assert usage.input == sum(scripts.lengths)
    assert len(scripts.lengths) == 2
    assert (usage.output or 0) > 10


@pytest.mark.parametrize("case", BAD)
async def test_bad_call_twice(
    case: str, models: dict[str, llm.Model], scripts: Scripts, calculator: Calculator
) -> None:
    """A model that does not correct itself ends in an error that says why, sync and async."""
    written, reason = BAD[case]
    for _ in range(4):
        scripts.say(written)
    with pytest.raises(EngineError) as failed:
        models[QWEN2].chain("2 * 2?", tools=calculator.tools).text()
    assert QWEN2 in str(failed.value)
    assert "twice" in str(failed.value)
    assert reason in str(failed.value)
    chain = llm.get_async_model(QWEN2).chain("2 * 2?", tools=calculator.tools)
    with pytest.raises(EngineError) as failed_async:
        await chain.text()
    assert str(failed_async.value) == str(failed.value)
    assert calculator.asked == []


def test_good_call_before_a_bad_one(
    models: dict[str, llm.Model], scripts: Scripts, calculator: Calculator
) -> None:
    """A call is made once although the model writes it again when it corrects another."""
    scripts.say("Well. ", call("double", number=2), call("double", number="five"))
    scripts.say(call("double", number=2), call("double", number=5))
    scripts.say("4 and 10.")
    chain = models[QWEN2].chain("2 * 2 and 2 * 5?", tools=calculator.tools)
    assert chain.text() == "Well. 4 and 10."
    assert calculator.asked == [2, 5]
    assert call("double", number=2) in scripts.read[1]


def test_same_call_twice(
    models: dict[str, llm.Model], scripts: Scripts, calculator: Calculator
) -> None:
    """Whoever wants the same call made twice gets that, also in a corrected answer."""
    twice = (call("double", number=2), call("double", number=2))
    scripts.say(*twice, call("double", number="two"))
    scripts.say(*twice)
    scripts.say("4, and 4.")
    assert models[QWEN2].chain("2 * 2, twice?", tools=calculator.tools).text() == "4, and 4."
    assert calculator.asked == [2, 2]


def test_tool_schema_asks_no_network(
    models: dict[str, llm.Model], scripts: Scripts, calculator: Calculator, connections: list[Any]
) -> None:
    """A tool whose schema points elsewhere is called without a look there."""
    schema = {"type": "object", "$ref": "http://127.0.0.1:9/schema.json"}
    tool = llm.Tool(name="double", input_schema=schema, implementation=calculator.double)
    scripts.say(call("double", number=2))
    scripts.say("4.")
    assert models[QWEN2].chain("2 * 2?", tools=[tool]).text() == "4."
    assert calculator.asked == [2]
    assert connections == []


def test_model_without_tools(calculator: Calculator) -> None:
    """A model whose template knows no tools refuses them as llm has every model do."""
    model = llm.get_model(PHI)
    assert not model.supports_tools
    with pytest.raises(ValueError, match="does not support tools"):
        model.prompt("2 * 2?", tools=calculator.tools)


def test_tiered_skips_models_without_tools(scripts: Scripts, calculator: Calculator) -> None:
    """`tiered` passes over a tier that can't do tools on every turn of a chain, and says so."""
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


def test_conversation_goes_on_without_tools(scripts: Scripts) -> None:
    """A model without tools that takes a conversation over reads calls and results as text."""
    code = "def double(number: int) -> int:\n    return 2 * number\n"
    scripts.say("Wait. ", call("double", number=2))
    scripts.say("4.")
    scripts.say("Then 8.")
    run("-m", QWEN2, "--functions", code, "2 * 2?")
    assert run("-c", "-m", PHI, "And then?") == "Then 8.\n"
    assert scripts.read[2] == (
        "<|user|>\n2 * 2?<|end|>\n"
        '<|assistant|>\nWait. \n[called double with {"number": 2}]<|end|>\n'
        "<|user|>\n[double returned 4]<|end|>\n"
        "<|assistant|>\n4.<|end|>\n<|user|>\nAnd then?<|end|>\n<|assistant|>\n"
    )


def test_conversation_goes_on_with_tools(
    models: dict[str, llm.Model], scripts: Scripts, calculator: Calculator
) -> None:
    """A model with tools reads earlier calls as calls, whether or not tools are offered now."""
    for said in (call("double", number=2), "4.", "Then 8."):
        scripts.say(said)
    conversation = models[QWEN2].conversation()
    assert conversation.chain("2 * 2?", tools=calculator.tools).text() == "4."
    assert conversation.prompt("And then?").text() == "Then 8."
    assert call("double", number=2) in scripts.read[2]
    assert "<tool_response>\n4\n</tool_response>" in scripts.read[2]
