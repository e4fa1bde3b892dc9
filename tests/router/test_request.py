"""One request: decided once, also when the decision is asked for before the answer."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import pytest

from llm_tiered import hooks
from llm_tiered.errors import ConfigError, RequestError
from llm_tiered.hooks import hookimpl
from llm_tiered.router import request as request_module
from llm_tiered.router.request import prepare
from tests.toys import SMALL

if TYPE_CHECKING:
    from collections.abc import Iterator

    import llm

    from tests.toys import Ask, Toys


class Counting:
    """A plugin that counts how often it estimates."""

    def __init__(self) -> None:
        self.estimates = 0

    @hookimpl
    def estimate_complexity(self, prompt: llm.Prompt) -> int:
        """Call every prompt easy."""
        self.estimates += 1
        return 2


@pytest.fixture(autouse=True)
def _none_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """No response is prepared, whatever other tests left behind."""
    monkeypatch.setattr(request_module, "_prepared", WeakKeyDictionary())


@pytest.fixture
def counting() -> Iterator[Counting]:
    """A plugin that takes part in estimates during the test."""
    plugin = Counting()
    hooks.manager().register(plugin)
    yield plugin
    hooks.manager().unregister(plugin)


async def test_a_prepared_response_is_decided_once(
    ask: Ask, toys: Toys, counting: Counting
) -> None:
    """Preparing a response and running it estimates once, and both go to the same tier."""
    response = ask.model.prompt("Hello")
    request = prepare(response)
    assert (request.decision.tier, request.candidates[0].model) == ("small", SMALL)
    assert request.candidates[0].place == "here"
    await ask.finish(response)
    assert response.resolved_model == SMALL
    assert counting.estimates == 1


async def test_a_prepared_decision_holds(ask: Ask, toys: Toys) -> None:
    """What the config says later does not move a response that is already prepared."""
    response = ask.model.prompt("Hello", complexity=6)
    prepare(response)
    toys.configure(tiers=[{"name": "only", "complexity": "1-10", "model": SMALL}])
    await ask.finish(response)
    assert response.response_json["tiered"]["tier"] == "medium"


async def test_an_unprepared_response_is_decided_as_it_runs(
    ask: Ask, toys: Toys, counting: Counting
) -> None:
    """Without preparation there is one estimate, too."""
    await ask("Hello")
    assert counting.estimates == 1


def test_preparing_raises(ask: Ask, toys: Toys) -> None:
    """A request that can't be decided fails when it is prepared, and leaves nothing behind."""
    with pytest.raises(RequestError, match="unknown task"):
        prepare(ask.model.prompt("Hello", task="unknown"))
    toys.config_file.write_text("tiers: 3")
    with pytest.raises(ConfigError, match="tiers"):
        prepare(ask.model.prompt("Hello"))
    assert len(request_module._prepared) == 0


def test_a_prepared_response_that_never_runs_is_forgotten(ask: Ask, toys: Toys) -> None:
    """Preparation does not keep a response alive."""
    response: Any = ask.model.prompt("Hello", complexity=2)
    prepare(response)
    assert len(request_module._prepared) == 1
    del response
    gc.collect()
    assert len(request_module._prepared) == 0
