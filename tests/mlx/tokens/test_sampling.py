"""How the next token is chosen."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import pytest

from llm_tiered.mlx.catalog import ModelSpec
from llm_tiered.mlx.engine.requests import Limits
from llm_tiered.mlx.models import MlxModel
from llm_tiered.mlx.tokens.sampling import make_penalties, make_sampler, make_seeded_sampler
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Sampler = Callable[[Any], Any]

# MLX compiles for each new setting on a CPU, in about a second: they are few here.

# Shares of eight tokens, the likeliest in the middle.
SHARES = [0.02, 0.04, 0.10, 0.40, 0.25, 0.12, 0.06, 0.01]
DRAWS = 4000
KINDS = ("unseeded", "make_seeded_sampler")


def make(kind: str, **settings: float) -> Sampler:
    """A make_sampler of either kind."""
    return make_sampler(settings) if kind == "unseeded" else make_seeded_sampler(settings, 3)


def draw(sample: Sampler, count: int = DRAWS) -> list[int]:
    """Draw so many tokens at once."""
    logprobs = mx.log(mx.array([SHARES] * count))
    drawn: list[int] = sample(logprobs).tolist()
    return drawn


def draw_in_turn(sample: Sampler, count: int = 20) -> list[int]:
    """Draw tokens one after the other, as an answer does."""
    return [token for _ in range(count) for token in draw(sample, 1)]


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.0}, {"temperature": 0.0, "top_k": 3}])
@pytest.mark.parametrize("kind", KINDS)
def test_likeliest(kind: str, settings: dict[str, float]) -> None:
    """Without a temperature the likeliest token is taken."""
    assert set(draw(make(kind, **settings))) == {3}


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({}, range(8)),
        ({"top_k": 0, "top_p": 1.0, "min_p": 0.0}, range(8)),
        ({"top_k": 3}, {3, 4, 5}),
        ({"top_p": 0.7}, {3, 4, 5}),
        ({"min_p": 0.2}, {2, 3, 4, 5}),
        ({"top_p": 0.7, "min_p": 0.2, "top_k": 3}, {3, 4, 5}),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_drawn(kind: str, settings: dict[str, float], allowed: Any) -> None:
    """Only the tokens that the settings leave are drawn, as often as their shares say."""
    drawn = draw(make(kind, temperature=1.0, **settings))
    assert set(drawn) == set(allowed)
    total = sum(SHARES[token] for token in allowed)
    for token in allowed:
        assert drawn.count(token) / DRAWS == pytest.approx(SHARES[token] / total, abs=0.04)


@pytest.mark.parametrize("kind", KINDS)
def test_temperature(kind: str) -> None:
    """A low temperature favours what is likely anyway, a high one does not."""
    for temperature in (0.5, 1.0, 2.0):
        weights = [share ** (1 / temperature) for share in SHARES]
        found = draw(make(kind, temperature=temperature)).count(3) / DRAWS
        assert found == pytest.approx(weights[3] / sum(weights), abs=0.04)


@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1])
def test_seed(seed: int) -> None:
    """A seed draws the same tokens each time, and other tokens than another seed."""
    first, again, other = (
        draw_in_turn(make_seeded_sampler({"temperature": 1.0}, value))
        for value in (seed, seed, seed ^ 1)
    )
    assert first == again != other
    assert len(set(first)) > 1


def test_seed_stands_alone() -> None:
    """What else is drawn in the thread changes nothing for a seed, and the other way round."""
    hot = {"temperature": 1.0}
    expected = draw_in_turn(make_seeded_sampler(hot, 7))
    mx.random.seed(1)
    others = draw_in_turn(make_sampler(hot))
    mx.random.seed(1)
    sample, found, disturbed = make_seeded_sampler(hot, 7), [], []
    for _ in range(20):
        found += draw(sample, 1)
        disturbed += draw(make_sampler(hot), 1)
    assert (found, disturbed) == (expected, others)


def test_one_sampler_for_the_same_settings() -> None:
    """Requests that want the same share their sampler, so that a batch draws for all at once."""
    settings = {"temperature": 0.5, "top_p": 0.7}
    assert make_sampler(settings) is make_sampler({**settings, "repetition_penalty": 1.1})
    assert make_sampler(settings) is not make_sampler({"temperature": 0.5})


@pytest.mark.parametrize("settings", [{}, {"repetition_penalty": 1.0}])
def test_no_penalty(settings: dict[str, float]) -> None:
    """Without a penalty, or with one of 1, the logits stay what they are."""
    assert make_penalties(settings) == []


def test_penalty() -> None:
    """A penalty makes likelier and unlikelier tokens that were said lately less likely alike."""
    [penalise] = make_penalties({"repetition_penalty": 2.0})
    logits = penalise(mx.array([1, 2, 2]), mx.array([[3.0, 4.0, -4.0, 5.0]]))
    assert logits.tolist() == [[3.0, 2.0, -8.0, 5.0]]


@pytest.mark.parametrize("settings", [{"top_k": -1}, {"top_k": 10**6, "top_p": 1.0}], ids=str)
def test_authors_settings_that_mean_nothing(settings: dict[str, float], tmp_path: Path) -> None:
    """A top_k of -1 in generation_config.json, as some have it, means no top_k, with a seed too."""
    folder = build("qwen2", tmp_path, layers=1)
    generation = {"do_sample": True, "temperature": 1.0, **settings}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    model = MlxModel(ModelSpec(model_id="mlx/sampling", path=folder), Limits, lambda _: None)
    for seed in (None, 1):
        first, again = (model.prompt("Hello", max_tokens=20, seed=seed).text() for _ in range(2))
        assert first
        assert (first == again) == (seed is not None)
