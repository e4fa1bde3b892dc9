"""What counts as an answer of a local model, behind `tiered` and asked directly."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import llm
import pytest

from llm_tiered.errors import EmptyAnswer
from tests.tiny_models import build
from tests.toys import MEDIUM, TIERS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mlx.scripted import Scripts
    from tests.toys import Ask, Toys

pytest_plugins = ("tests.mlx.scripted",)

TINY = "mlx/tiny-answers"
THOUGHTS, ALL = "<think>Let me see", "<think>Let me see.</think>\n\n"
CALL = '<tool_call>{"name": "clock", "arguments": {}}</tool_call>'

# What the model writes, the limit of tokens, and how that ends: with its own answer or not.
CASES: dict[str, tuple[str, int, bool]] = {
    "text": ("Hello", 50, True),
    "text at the limit": ("Hello, how are you today?", 3, True),
    "thoughts and text": (f"{ALL}Hello", 50, True),
    "thoughts": (THOUGHTS, 50, False),
    "thoughts at the limit": (f"{THOUGHTS}, and so on and on", 5, False),
    "closed thoughts": (ALL, 50, False),
    "a call in the thoughts": (f"<think>{CALL}</think>", 50, False),
    "thoughts and a call": (f"{ALL}{CALL}", 50, True),
    "nothing": ("", 50, False),
    "white space": (" \n\n", 50, False),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that can think and call tools."""
    return build("qwen3", tmp_path_factory.mktemp("tiny") / "qwen3", layers=1)


@pytest.fixture
def tiny(toys: Toys, folder: Path) -> str:
    """The tiny model as the small tier."""
    toys.medium.tools = toys.medium.schemas = True
    toys.configure(
        models=[{"id": TINY, "path": str(folder)}],
        tiers=[TIERS[0] | {"model": TINY}, *TIERS[1:]],
        fallback="local",
    )
    return TINY


def clock() -> str:
    """The current time."""
    return "noon"


async def test_behind_tiered(ask: Ask, tiny: str, toys: Toys, scripts: Scripts) -> None:
    """Thoughts, white space and calls in the thoughts are no answer: the next tier answers."""
    wrong = {}
    for name, (script, limit, own) in CASES.items():
        scripts.say(script)
        response = await ask("Go", tier="small", max_tokens=limit, tools=[clock])
        if response.resolved_model != (tiny if own else MEDIUM):
            wrong[name] = response.response_json["tiered"]["attempts"]
        kinds = {part.to_dict()["type"] for part in response._messages_now()[0].parts}
        if not own and kinds != {"text"}:
            wrong[name] = kinds
    assert wrong == {}


async def test_json(ask: Ask, tiny: str, toys: Toys, scripts: Scripts) -> None:
    """JSON at the limit is not an answer either."""
    toys.medium.does = ['{"a": 1}']
    scripts.say('{"a":1}')
    schema = {"const": {"a": 1}}
    response = await ask("Go", tier="small", max_tokens=2, schema=schema)
    assert response.resolved_model == MEDIUM
    assert response.response_json["tiered"]["attempts"][0]["reason"] == (
        "the JSON was cut off after 2 tokens"
    )


def test_directly(tiny: str, scripts: Scripts) -> None:
    """Asked directly, a model that wrote no answer raises an error."""
    model: Any = llm.get_model(tiny)
    for script, limit, whole in CASES.values():
        scripts.say(script)
        response = model.prompt("Go", max_tokens=limit, tools=[llm.Tool.function(clock)])
        with nullcontext() if whole else pytest.raises(EmptyAnswer):
            response.text()
