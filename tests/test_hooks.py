"""Hooks of other packages: their estimates of a prompt, and their vetoes of tiers."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered import hooks
from llm_tiered.estimator import Estimate
from llm_tiered.hooks import hookimpl
from tests.cli.commands import run_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import llm

    from tests.toys import Ask, Toys

README = Path(__file__).parents[1] / "README.md"
ESTIMATE_OF_11 = Estimate(1.0, 11, 1.0, ("off the scale",))
METADATA = "Metadata-Version: 2.1\nName: llm-tiered-contracts\nVersion: 0.1\n"


@pytest.fixture
def plug() -> Iterator[Callable[[Any], None]]:
    """Return a function that registers a plugin for the length of a test."""
    plugins = []

    def add(plugin: Any) -> None:
        plugins.append(plugin)
        hooks.manager().register(plugin, name=f"plugin-{len(plugins)}")

    yield add
    for plugin in plugins:
        hooks.manager().unregister(plugin)


class ConstantPlugin:
    """A plugin that always returns the same, or raises it if it is an exception."""

    def __init__(self, complexity: Any = None, veto: Any = None) -> None:
        self.complexity, self.vetoed = complexity, veto
        self.prompts: list[llm.Prompt] = []

    @hookimpl
    def estimate_complexity(self, prompt: llm.Prompt) -> Any:
        """Return the complexity, or raise it."""
        self.prompts.append(prompt)
        if isinstance(self.complexity, Exception):
            raise self.complexity
        return self.complexity

    @hookimpl
    def veto_tier(self, tier: str, model: str, prompt: llm.Prompt) -> Any:
        """Keep every prompt from one tier, or raise the exception for it."""
        if tier != self.vetoed:
            return None
        if isinstance(self.complexity, Exception):
            raise self.complexity
        return "not with us"


async def test_plugin_estimates(ask: Ask, toys: Toys, plug: Callable[[Any], None]) -> None:
    """A number from a plugin replaces the estimate."""
    plug(ConstantPlugin(2))
    response = await ask("Prove that there are infinitely many primes")
    record = response.response_json["tiered"]
    assert (record["tier"], record["complexity"], record["source"]) == ("small", 2, "estimate")


async def test_plugin_without_an_estimate(
    ask: Ask, toys: Toys, plug: Callable[[Any], None]
) -> None:
    """If no plugin has an estimate, ours is used."""
    plain = await ask("Hello")
    plug(ConstantPlugin(None))
    again = await ask("Hello")
    assert (
        again.response_json["tiered"]["complexity"] == plain.response_json["tiered"]["complexity"]
    )


async def test_first_estimate_counts(ask: Ask, toys: Toys, plug: Callable[[Any], None]) -> None:
    """Of several plugins, the first with an estimate counts."""
    plug(ConstantPlugin(2))
    plug(ConstantPlugin(None))
    assert (await ask("Hello")).response_json["tiered"]["complexity"] == 2


async def test_request_beats_plugins(ask: Ask, toys: Toys, plug: Callable[[Any], None]) -> None:
    """For a request with a complexity, a tier or a task, no plugin is called."""
    plugin = ConstantPlugin(2)
    plug(plugin)
    for options in ({"complexity": 6}, {"tier": "medium"}, {"task": "creative_generation"}):
        assert (await ask("Hello", **options)).response_json["tiered"]["tier"] == "medium"
    assert plugin.prompts == []


@pytest.mark.parametrize("wrong", [0, 11, "hard", 3.5, True, ESTIMATE_OF_11, ValueError("broken")])
async def test_wrong_plugin(
    ask: Ask,
    toys: Toys,
    plug: Callable[[Any], None],
    caplog: pytest.LogCaptureFixture,
    wrong: Any,
) -> None:
    """A plugin that fails or returns something else is ignored, with a warning."""
    plug(ConstantPlugin(wrong))
    response = await ask("Hello")
    assert response.response_json["tiered"]["source"] == "estimate"
    [(_, level, message)] = caplog.record_tuples
    assert level == logging.WARNING
    assert ("plugin-1's" if isinstance(wrong, Exception) else "a plugin's") in message
    assert "estimate_complexity" in message
    assert "broken" in message or repr(wrong) in message


async def test_whole_estimate(ask: Ask, toys: Toys, plug: Callable[[Any], None]) -> None:
    """A plugin can return an estimate with reasons."""
    plug(ConstantPlugin(Estimate(0.2, 3, 0.9, ("a limerick",))))
    assert (await ask("Hello")).response_json["tiered"]["complexity"] == 3


async def test_veto(ask: Ask, toys: Toys, plug: Callable[[Any], None]) -> None:
    """A tier that a plugin vetoes is skipped with its reason, even if the request names it."""
    plug(ConstantPlugin(veto="medium"))
    response = await ask("Hello", tier="medium")
    first, second = response.response_json["tiered"]["attempts"]
    assert (first["outcome"], first["reason"]) == ("skipped", "not with us")
    assert second["tier"] == "small"
    assert toys.medium.prompts == []


async def test_failing_veto(ask: Ask, toys: Toys, plug: Callable[[Any], None]) -> None:
    """A plugin whose veto_tier fails keeps the prompt from the tier, and is named."""
    plug(ConstantPlugin(ValueError("broken"), veto="medium"))
    response = await ask("Hello", tier="medium")
    first, second = response.response_json["tiered"]["attempts"]
    assert first["reason"] == "plugin-1's veto_tier failed: ValueError: broken"
    assert second["tier"] == "small"
    assert toys.medium.prompts == []


def example() -> str:
    """Return the example in the README."""
    [code] = re.findall(
        r"```python\n(# contracts\.py\n.*?)```", README.read_text("utf-8"), re.DOTALL
    )
    return str(code)


def test_example_is_short() -> None:
    """The example in the README has at most twenty lines."""
    assert len(example().splitlines()) <= 20


@pytest.fixture
def installed_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the example of the README as a distribution for the length of a test."""
    (tmp_path / "contracts.py").write_text(example())
    info = tmp_path / "llm_tiered_contracts-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(METADATA)
    (info / "entry_points.txt").write_text("[llm_tiered]\ncontracts = contracts\n")
    monkeypatch.syspath_prepend(tmp_path)
    hooks.manager.cache_clear()
    yield
    hooks.manager.cache_clear()
    sys.modules.pop("contracts", None)


def test_plugin_that_cannot_be_loaded(
    installed_example: None, user_path: Path, tmp_path: Path
) -> None:
    """While a plugin can't be imported, it may have had an objection to any tier."""
    (tmp_path / "contracts.py").write_text("import nonsense_that_does_not_exist")
    route = run_json("route", "-o", "tier", "medium", "Hello")
    reason = "a plugin can't be loaded: ModuleNotFoundError: No module named"
    assert all(reason in step["reason"] for step in route["chain"])


def test_example_as_an_installed_distribution(installed_example: None, user_path: Path) -> None:
    """`llm tiered route` uses the README's example, once it is installed as a distribution."""
    route = run_json("route", "Is this contract valid? My password for it is swordfish.")
    assert (route["complexity"], route["source"]) == (9, "estimate")
    [cloud] = [step for step in route["chain"] if step["tier"] == "cloud"]
    assert (cloud["outcome"], cloud["reason"]) == ("skipped", "it contains a password")
