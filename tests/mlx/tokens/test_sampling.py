"""Samplers and penalties."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import pytest

from llm_tiered.mlx.tokens.sampling import make_penalties, make_sampler, make_seeded_sampler
from tests.mlx.models import local_model
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Sampler = Callable[[Any], Any]

# On a CPU, MLX may compile for a second for each new combination of options: they are few here.

# Probabilities of eight tokens, the likeliest in the middle.
PROBABILITIES = [0.02, 0.04, 0.10, 0.40, 0.25, 0.12, 0.06, 0.01]
DRAWS = 4000
KINDS = ("unseeded", "make_seeded_sampler")


def make(kind: str, **options: float) -> Sampler:
    """Return a sampler of either kind."""
    return make_sampler(options) if kind == "unseeded" else make_seeded_sampler(options, 3)


def draw(sample: Sampler, count: int = DRAWS) -> list[int]:
    """Sample this number of tokens in one call."""
    logprobs = mx.log(mx.array([PROBABILITIES] * count))
    tokens: list[int] = sample(logprobs).tolist()
    return tokens


def draw_in_turn(sample: Sampler, count: int = 20) -> list[int]:
    """Sample tokens one after the other, as an answer does."""
    return [token for _ in range(count) for token in draw(sample, 1)]


@pytest.mark.parametrize("options", [{}, {"temperature": 0.0}, {"temperature": 0.0, "top_k": 3}])
@pytest.mark.parametrize("kind", KINDS)
def test_greedy(kind: str, options: dict[str, float]) -> None:
    """Without a temperature, decoding is greedy."""
    assert set(draw(make(kind, **options))) == {3}


@pytest.mark.parametrize(
    ("options", "allowed"),
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
def test_distribution(kind: str, options: dict[str, float], allowed: Any) -> None:
    """Only tokens that the options allow are sampled, in proportion to their probabilities."""
    tokens = draw(make(kind, temperature=1.0, **options))
    assert set(tokens) == set(allowed)
    total = sum(PROBABILITIES[token] for token in allowed)
    for token in allowed:
        assert tokens.count(token) / DRAWS == pytest.approx(PROBABILITIES[token] / total, abs=0.04)


@pytest.mark.parametrize("kind", KINDS)
def test_temperature(kind: str) -> None:
    """A low temperature sharpens the distribution, a high one flattens it."""
    for temperature in (0.5, 1.0, 2.0):
        weights = [probability ** (1 / temperature) for probability in PROBABILITIES]
        frequency = draw(make(kind, temperature=temperature)).count(3) / DRAWS
        assert frequency == pytest.approx(weights[3] / sum(weights), abs=0.04)


@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1])
def test_seed(seed: int) -> None:
    """A seed samples the same tokens each time, and another seed samples others."""
    first, again, other = (
        draw_in_turn(make_seeded_sampler({"temperature": 1.0}, value))
        for value in (seed, seed, seed ^ 1)
    )
    assert first == again != other
    assert len(set(first)) > 1


def test_seed_is_independent() -> None:
    """Seeded sampling and other sampling in the thread don't affect each other."""
    hot = {"temperature": 1.0}
    expected = draw_in_turn(make_seeded_sampler(hot, 7))
    mx.random.seed(1)
    others = draw_in_turn(make_sampler(hot))
    mx.random.seed(1)
    sample, seeded, unseeded = make_seeded_sampler(hot, 7), [], []
    for _ in range(20):
        seeded += draw(sample, 1)
        unseeded += draw(make_sampler(hot), 1)
    assert (seeded, unseeded) == (expected, others)


def test_equal_options_share_a_sampler() -> None:
    """Requests with equal options share a sampler, so that a batch samples them in one call."""
    options = {"temperature": 0.5, "top_p": 0.7}
    assert make_sampler(options) is make_sampler({**options, "repetition_penalty": 1.1})
    assert make_sampler(options) is not make_sampler({"temperature": 0.5})


@pytest.mark.parametrize("options", [{}, {"repetition_penalty": 1.0}])
def test_no_penalty(options: dict[str, float]) -> None:
    """Without a penalty, or with one of 1, the logits are unchanged."""
    assert make_penalties(options) == []


def test_penalty() -> None:
    """The penalty lowers the logits of recent tokens, positive and negative ones alike."""
    [penalise] = make_penalties({"repetition_penalty": 2.0})
    logits = penalise(mx.array([1, 2, 2]), mx.array([[3.0, 4.0, -4.0, 5.0]]))
    assert logits.tolist() == [[3.0, 2.0, -8.0, 5.0]]


@pytest.mark.parametrize("options", [{"top_k": -1}, {"top_k": 10**6, "top_p": 1.0}], ids=str)
def test_meaningless_top_k(options: dict[str, float], tmp_path: Path) -> None:
    """A top_k of -1 in generation_config.json means no limit, as does one beyond the vocabulary."""
    folder = build("qwen2", tmp_path, layers=1)
    generation = {"do_sample": True, "temperature": 1.0, **options}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    model = local_model(folder, "mlx/sampling")
    for seed in (None, 1):
        first, again = (model.prompt("Hello", max_tokens=20, seed=seed).text() for _ in range(2))
        assert first
        assert (first == again) == (seed is not None)
