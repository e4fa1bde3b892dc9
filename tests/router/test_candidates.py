"""Which models are tried, and in what order."""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import pytest

from llm_tiered.config.sections import Config
from llm_tiered.config.settings import Settings
from llm_tiered.config.terms import Fallback
from llm_tiered.mlx.catalog import EMBEDDED
from llm_tiered.router.candidates import Candidate, ladder, order
from llm_tiered.router.decision import EMBEDDED_TIER, DecisionInput, decide

PHI, QWEN = "mlx/Phi-3.5-mini-instruct-4bit", "mlx/Qwen2.5-7B-Instruct-4bit"
GEMINI = "gemini/gemini-flash-latest"


def _settings(*tiers: tuple[str, str, str], force_local: bool | None = None) -> Settings:
    entries = [
        {"name": name, "complexity": complexity, "model": model}
        for name, complexity, model in tiers
    ]
    config = Config.model_validate({"tiers": entries}) if entries else Config()
    return Settings(config, force_local)


def _order(settings: Settings, complexity: int, **request: Any) -> list[str]:
    """The names of the tiers that are tried for a request of that complexity, in order."""
    decision = decide(DecisionInput(complexity=complexity, **request), settings)
    return [candidate.tier for candidate in order(decision, settings)]


# The order

S, M, L = 2, 6, 9  # one complexity for each of the default tiers


@pytest.mark.parametrize(
    ("complexity", "fallback", "expected"),
    [
        (S, "any", ["small", "medium", "cloud", "embedded"]),
        (M, "any", ["medium", "small", "cloud", "embedded"]),
        (L, "any", ["cloud", "medium", "small", "embedded"]),
        (S, "local", ["small", "medium", "embedded"]),
        (M, "local", ["medium", "small", "embedded"]),
        (L, "local", ["cloud", "medium", "small", "embedded"]),
        (S, "none", ["small"]),
        (M, "none", ["medium"]),
        (L, "none", ["cloud"]),
    ],
)
def test_order(complexity: int, fallback: Fallback, expected: list[str]) -> None:
    """The tier, other local ones, the cloud, the embedded model; `fallback` shortens the list."""
    assert _order(_settings(), complexity, fallback=fallback) == expected


def test_the_embedded_model_by_name_is_alone() -> None:
    """A request that names the embedded model gets no other."""
    settings = _settings()
    decision = decide(DecisionInput(tier=EMBEDDED_TIER), settings)
    assert [candidate.model for candidate in order(decision, settings)] == [EMBEDDED.model_id]


@pytest.mark.parametrize(
    ("complexity", "fallback", "expected"),
    [
        (S, "any", ["small", "medium", "embedded"]),
        (M, "any", ["medium", "small", "embedded"]),
        (L, "any", ["medium", "small", "embedded"]),
        (S, "local", ["small", "medium", "embedded"]),
        (M, "local", ["medium", "small", "embedded"]),
        (L, "local", ["medium", "small", "embedded"]),
        (S, "none", ["small"]),
        (M, "none", ["medium"]),
        (L, "none", ["medium"]),
    ],
)
def test_order_of_a_private_request(
    complexity: int, fallback: Fallback, expected: list[str]
) -> None:
    """A request that may not leave this machine meets only local models."""
    orders = {}
    for force_local in (None, True, False):
        settings = _settings(force_local=force_local)
        orders[force_local] = _order(settings, complexity, fallback=fallback, kept="here")
    assert {key: order for key, order in orders.items() if order != expected} == {}


@pytest.mark.parametrize("complexity", [S, M, L])
@pytest.mark.parametrize("fallback", get_args(Fallback))
def test_order_of_the_rollback(complexity: int, fallback: Fallback) -> None:
    """With FORCE_LOCAL_LLM=false only the cloud is tried."""
    assert _order(_settings(force_local=False), complexity, fallback=fallback) == ["cloud"]


def test_candidates_carry_what_their_tier_says() -> None:
    """A candidate has its tier's model and options; the embedded model has none."""
    settings = _settings()
    assert order(decide(DecisionInput(complexity=M), settings), settings) == (
        Candidate("medium", QWEN, place="here", options={"max_tokens": 4096}),
        Candidate("small", PHI, place="here", options={"max_tokens": 2048}),
        Candidate("cloud", GEMINI, place="cloud", options={"timeout": 120}),
        Candidate("embedded", EMBEDDED.model_id, place="here"),
    )


TINY = (("small", "1-4", EMBEDDED.model_id), ("medium", "5-7", QWEN), ("cloud", "8-10", GEMINI))
TWO_CLOUDS = (("small", "1-4", PHI), ("cheap", "5-7", "gemini/a"), ("smart", "8-10", "gemini/b"))
SAME_MODEL = (("small", "1-4", PHI), ("medium", "5-7", PHI), ("cloud", "8-10", GEMINI))
NO_CLOUD = (("small", "1-4", PHI), ("medium", "5-10", QWEN))
NO_LOCAL = (("cheap", "1-7", "gemini/a"), ("smart", "8-10", "gemini/b"))
CLOUD_BELOW = (("cheap", "1-4", GEMINI), ("big", "5-10", QWEN))
MANY = (
    ("tiny", "1-2", "mlx/tiny"),
    ("low", "3", "gemini/low"),
    ("small", "4", PHI),
    ("medium", "5-6", QWEN),
    ("mid", "7", "gemini/mid"),
    ("big", "8", "mlx/big"),
    ("high", "9-10", "gemini/high"),
)


@pytest.mark.parametrize(
    ("tiers", "complexity", "expected"),
    [
        (TINY, S, ["small", "medium", "cloud"]),
        (TINY, M, ["medium", "small", "cloud"]),
        (TINY, L, ["cloud", "medium", "small"]),
        (TWO_CLOUDS, S, ["small", "cheap", "smart", "embedded"]),
        (TWO_CLOUDS, M, ["cheap", "smart", "small", "embedded"]),
        (TWO_CLOUDS, L, ["smart", "cheap", "small", "embedded"]),
        (SAME_MODEL, S, ["small", "cloud", "embedded"]),
        (SAME_MODEL, M, ["medium", "cloud", "embedded"]),
        (SAME_MODEL, L, ["cloud", "medium", "embedded"]),
        (NO_CLOUD, S, ["small", "medium", "embedded"]),
        (NO_CLOUD, L, ["medium", "small", "embedded"]),
        (NO_LOCAL, S, ["cheap", "smart", "embedded"]),
        (NO_LOCAL, L, ["smart", "cheap", "embedded"]),
        (CLOUD_BELOW, S, ["cheap", "big", "embedded"]),
        (CLOUD_BELOW, L, ["big", "cheap", "embedded"]),
        (MANY, 4, ["small", "medium", "big", "tiny", "low", "mid", "high", "embedded"]),
        (MANY, 8, ["big", "medium", "small", "tiny", "low", "mid", "high", "embedded"]),
        (MANY, 7, ["mid", "high", "low", "big", "medium", "small", "tiny", "embedded"]),
    ],
)
def test_order_of_other_tiers(
    tiers: tuple[tuple[str, str, str], ...], complexity: int, expected: list[str]
) -> None:
    """With any tiers, the decided one comes first and no model comes twice."""
    assert _order(_settings(*tiers), complexity) == expected


@pytest.mark.parametrize(
    ("tiers", "complexity", "request_", "expected"),
    [
        (TWO_CLOUDS, M, {"fallback": "local"}, ["cheap", "small", "embedded"]),
        (TWO_CLOUDS, M, {"fallback": "none"}, ["cheap"]),
        (TWO_CLOUDS, M, {"kept": "here"}, ["small", "embedded"]),
        (TINY, S, {"fallback": "local"}, ["small", "medium"]),
        (TINY, L, {"kept": "here"}, ["medium", "small"]),
        (NO_LOCAL, S, {"kept": "here"}, ["embedded"]),
        (NO_LOCAL, S, {"kept": "here", "fallback": "none"}, ["embedded"]),
        (NO_LOCAL, L, {"fallback": "local"}, ["smart", "embedded"]),
    ],
)
def test_shorter_order_of_other_tiers(
    tiers: tuple[tuple[str, str, str], ...],
    complexity: int,
    request_: dict[str, Any],
    expected: list[str],
) -> None:
    """With any tiers, privacy and `fallback` shorten the list."""
    assert _order(_settings(*tiers), complexity, **request_) == expected


def test_order_of_the_rollback_with_two_clouds() -> None:
    """With FORCE_LOCAL_LLM=false both cloud tiers are tried, the decided one first."""
    settings = _settings(*TWO_CLOUDS, force_local=False)
    assert _order(settings, S) == ["cheap", "smart"]
    assert _order(settings, L) == ["smart", "cheap"]


@pytest.mark.parametrize("tiers", [(), TINY, TWO_CLOUDS, SAME_MODEL, NO_LOCAL, CLOUD_BELOW])
def test_every_order_keeps_the_rules(tiers: tuple[tuple[str, str, str], ...]) -> None:
    """Every order starts with the decision, repeats nothing and respects privacy."""
    here: tuple[Any, ...] = (None, "here")
    for complexity, fallback, kept, force_local in product(
        range(1, 11), get_args(Fallback), here, (None, True, False)
    ):
        settings = _settings(*tiers, force_local=force_local)
        request = DecisionInput(complexity=complexity, fallback=fallback, kept=kept)
        decision = decide(request, settings)
        candidates = order(decision, settings)
        models = [candidate.model for candidate in candidates]
        assert (candidates[0].tier, models[0]) == (decision.tier, decision.model)
        assert len(set(models)) == len(models)
        assert all(candidate.place == "here" for candidate in candidates) or not decision.keep_local
        assert not any(candidate.place == "here" for candidate in candidates if decision.cloud_only)
        assert all(
            (candidate.place == "here") == candidate.model.startswith("mlx/")
            for candidate in candidates
        )


# Where weak answers rise


def _ladder(settings: Settings, complexity: int, **request: Any) -> list[str]:
    decision = decide(DecisionInput(complexity=complexity, **request), settings)
    return [candidate.tier for candidate in ladder(decision, settings)]


@pytest.mark.parametrize("complexity", [2, 6, 9])
def test_ladder(complexity: int) -> None:
    """A weak answer escalates from the embedded model up to the cloud, whichever tier gave it."""
    assert _ladder(_settings(), complexity) == ["embedded", "small", "medium", "cloud"]


def test_ladder_of_a_private_request() -> None:
    """A request that must stay here escalates no higher than the local tiers."""
    assert _ladder(_settings(), 2, kept="here") == ["embedded", "small", "medium"]


def test_ladder_without_a_fallback() -> None:
    """With no other model allowed, nothing escalates."""
    assert _ladder(_settings(), 2, fallback="none") == ["small"]
    assert _ladder(_settings(), 2, fallback="local") == ["embedded", "small", "medium"]
    assert _ladder(_settings(), 9, fallback="none") == ["cloud"]


def test_ladder_of_the_rollback() -> None:
    """Under the rollback the ladder holds only the cloud."""
    assert _ladder(_settings(force_local=False), 2) == ["cloud"]
