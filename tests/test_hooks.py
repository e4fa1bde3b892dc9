"""Other packages: what they say of a prompt's complexity, and which tiers they keep it from."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered import hooks
from llm_tiered.estimator import Estimate
from llm_tiered.hooks import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import llm

    from tests.toys import Ask, Toys

README = Path(__file__).parents[1] / "README.md"
ESTIMATE_OF_11 = Estimate(1.0, 11, 1.0, ("off the scale",))
METADATA = "Metadata-Version: 2.1\nName: llm-tiered-contracts\nVersion: 0.1\n"


@pytest.fixture
def plug() -> Iterator[Callable[[Any], None]]:
    """Add a plugin of ours for the length of a test."""
    added = []

    def add(plugin: Any) -> None:
        hooks.manager().register(plugin)
        added.append(plugin)

    yield add
    for plugin in added:
        hooks.manager().unregister(plugin)


class Says:
    """A plugin that always says the same."""

    def __init__(self, complexity: Any = None, veto: Any = None) -> None:
        self.complexity, self.veto_ = complexity, veto
        self.prompts: list[llm.Prompt] = []

    @hookimpl
    def estimate_complexity(self, prompt: llm.Prompt) -> Any:
        """Say how hard it is, or fail."""
        self.prompts.append(prompt)
        if isinstance(self.complexity, Exception):
            raise self.complexity
        return self.complexity

    @hookimpl
    def veto_tier(self, tier: str, model: str, prompt: llm.Prompt) -> Any:
        """Keep everything from one tier, or fail there."""
        if tier != self.veto_:
            return None
        if isinstance(self.complexity, Exception):
            raise self.complexity
        return "not with us"


async def test_plugin_estimates(ask: Ask, toys: Toys, plug: Callable[[Any], None]) -> None:
    """A number from a plugin takes the place of the estimate."""
    plug(Says(2))
    response = await ask("Prove that there are infinitely many primes")
    record = response.response_json["tiered"]
    assert (record["tier"], record["complexity"], record["source"]) == ("small", 2, "estimate")


async def test_plugin_that_says_nothing(ask: Ask, toys: Toys, plug: Callable[[Any], None]) -> None:
    """Without a word from a plugin the estimate holds."""
    plain = await ask("Hello")
    plug(Says(None))
    again = await ask("Hello")
    assert (
        again.response_json["tiered"]["complexity"] == plain.response_json["tiered"]["complexity"]
    )


async def test_first_word_counts(ask: Ask, toys: Toys, plug: Callable[[Any], None]) -> None:
    """Of several plugins the first that says something is heard."""
    plug(Says(2))
    plug(Says(None))
    assert (await ask("Hello")).response_json["tiered"]["complexity"] == 2


async def test_request_beats_plugins(ask: Ask, toys: Toys, plug: Callable[[Any], None]) -> None:
    """Where the request itself says where it wants to go, no plugin is asked."""
    plugin = Says(2)
    plug(plugin)
    for said in ({"complexity": 6}, {"tier": "medium"}, {"task": "creative_generation"}):
        assert (await ask("Hello", **said)).response_json["tiered"]["tier"] == "medium"
    assert plugin.prompts == []


@pytest.mark.parametrize("wrong", [0, 11, "hard", 3.5, True, ESTIMATE_OF_11, ValueError("broken")])
async def test_wrong_plugin(
    ask: Ask,
    toys: Toys,
    plug: Callable[[Any], None],
    caplog: pytest.LogCaptureFixture,
    wrong: Any,
) -> None:
    """A plugin that fails or says what is no complexity is told of, and the prompt goes on."""
    plug(Says(wrong))
    response = await ask("Hello")
    assert response.response_json["tiered"]["source"] == "estimate"
    [(_, level, message)] = caplog.record_tuples
    assert level == logging.WARNING
    assert "estimate_complexity" in message
    assert "broken" in message or repr(wrong) in message


async def test_whole_estimate(ask: Ask, toys: Toys, plug: Callable[[Any], None]) -> None:
    """A plugin can give reasons."""
    plug(Says(Estimate(0.2, 3, 0.9, ("a limerick",))))
    assert (await ask("Hello")).response_json["tiered"]["complexity"] == 3


async def test_veto(ask: Ask, toys: Toys, plug: Callable[[Any], None]) -> None:
    """A tier that a plugin refuses is skipped with its reason, whoever asked for it."""
    plug(Says(veto="medium"))
    response = await ask("Hello", tier="medium")
    first, second = response.response_json["tiered"]["attempts"]
    assert (first["outcome"], first["reason"]) == ("skipped", "not with us")
    assert second["tier"] == "small"
    assert toys.medium.prompts == []


async def test_veto_that_fails(ask: Ask, toys: Toys, plug: Callable[[Any], None]) -> None:
    """A plugin that fails to say whether a tier may see a prompt does not let it through."""
    plug(Says(ValueError("broken"), veto="medium"))
    response = await ask("Hello", tier="medium")
    first, second = response.response_json["tiered"]["attempts"]
    assert first["reason"] == "a plugin's veto_tier failed: ValueError: broken"
    assert second["tier"] == "small"
    assert toys.medium.prompts == []


def example() -> str:
    """The example of the README."""
    [found] = re.findall(
        r"```python\n(# contracts\.py\n.*?)```", README.read_text("utf-8"), re.DOTALL
    )
    code: str = found
    return code


def test_example_is_short() -> None:
    """The documented example has at most twenty lines."""
    assert len(example().splitlines()) <= 20


def test_example_as_an_installed_distribution(tmp_path: Path, user_path: Path) -> None:
    """The README's example, installed beside us, is found and heard by `llm tiered route`."""
    (tmp_path / "contracts.py").write_text(example())
    info = tmp_path / "llm_tiered_contracts-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(METADATA)
    (info / "entry_points.txt").write_text("[llm_tiered]\ncontracts = contracts\n")

    prompt = "Is this contract valid? My password for it is swordfish."
    done = subprocess.run(
        [sys.executable, "-m", "llm", "tiered", "route", "--json", prompt],
        env=os.environ | {"PYTHONPATH": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    facts = json.loads(done.stdout)
    assert (facts["complexity"], facts["source"]) == (9, "estimate")
    [cloud] = [step for step in facts["chain"] if step["tier"] == "cloud"]
    assert (cloud["outcome"], cloud["reason"]) == ("skipped", "it holds a password")
