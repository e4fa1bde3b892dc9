"""The log-probabilities of the tokens that were sampled."""

from __future__ import annotations

import mlx.core as mx
import pytest

from llm_tiered.mlx.tokens.logprobs import Logprobs, StepLogprobs

STEPS = [
    # Tokens of two requests, and each one's log-probabilities over three tokens.
    ([0, 2], [[-0.5, -1.0, -2.0], [-3.0, -4.0, -0.25]]),
    ([1, 1], [[-0.75, -1.5, -2.5], [-5.0, -0.125, -7.0]]),
]


def sample(step: int, dtype: mx.Dtype = mx.float32) -> StepLogprobs:
    """One of the steps above."""
    tokens, rows = STEPS[step]
    return StepLogprobs(tokens, [mx.array(row, dtype) for row in rows])


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_each_request_has_its_own(dtype: mx.Dtype) -> None:
    """Each request gets its row of every step, in whatever numbers the model computes."""
    first, second = Logprobs(), Logprobs()
    for step in range(2):
        sampled = sample(step, dtype)
        first.add(sampled, 0)
        second.add(sampled, 1)
    assert first.values() == [-0.5, -1.5]
    assert second.values() == [-0.25, -0.125]


def test_values_can_be_asked_for_in_between() -> None:
    """What was asked for before is not counted twice."""
    logprobs = Logprobs()
    assert logprobs.values() == []
    logprobs.add(sample(0), 0)
    assert logprobs.values() == logprobs.values() == [-0.5]
    logprobs.add(sample(1), 0)
    assert logprobs.values() == [-0.5, -1.5]


def test_a_token_is_read_when_the_next_one_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """To note a token does not wait for the device, which has the model's next step to do."""
    read: list[StepLogprobs] = []
    original = StepLogprobs.read

    def noted(sampled: StepLogprobs) -> list[float]:
        read.append(sampled)
        return original(sampled)

    monkeypatch.setattr(StepLogprobs, "read", noted)
    steps = [sample(0), sample(1)]
    logprobs = Logprobs()
    logprobs.add(steps[0], 0)
    assert read == []
    logprobs.add(steps[1], 0)
    assert read == steps[:1]
