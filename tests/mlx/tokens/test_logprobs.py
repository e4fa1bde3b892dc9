"""The log-probabilities of the sampled tokens."""

from __future__ import annotations

import mlx.core as mx
import pytest

from llm_tiered.mlx.tokens.logprobs import Logprobs, StepLogprobs

STEPS = [
    # Tokens of two requests, and each one's log-probabilities over three tokens.
    ([0, 2], [[-0.5, -1.0, -2.0], [-3.0, -4.0, -0.25]]),
    ([1, 1], [[-0.75, -1.5, -2.5], [-5.0, -0.125, -7.0]]),
]


def sample(step: int, dtype: mx.Dtype = mx.float32, *, computed: bool = False) -> StepLogprobs:
    """Return one of the steps above."""
    tokens, rows = STEPS[step]
    return StepLogprobs(tokens, list(mx.array(rows, dtype)), computed=computed)


@pytest.mark.parametrize("computed", [False, True])
@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_each_request_has_its_own(dtype: mx.Dtype, *, computed: bool) -> None:
    """Each request gets the values of its row in every step, whatever the data type."""
    first, second = Logprobs(), Logprobs()
    for step in range(2):
        step_logprobs = sample(step, dtype, computed=computed)
        first.add(step_logprobs, 0)
        second.add(step_logprobs, 1)
    assert first.values() == [-0.5, -1.5]
    assert second.values() == [-0.25, -0.125]


def test_values_can_be_read_in_between() -> None:
    """Reading the values early counts no token twice."""
    logprobs = Logprobs()
    assert logprobs.values() == []
    logprobs.add(sample(0), 0)
    assert logprobs.values() == logprobs.values() == [-0.5]
    logprobs.add(sample(1), 0)
    assert logprobs.values() == [-0.5, -1.5]


def test_a_token_is_read_when_the_next_one_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adding a token does not wait for the device, which computes the model's next step."""
    steps_read: list[StepLogprobs] = []
    original = StepLogprobs.read

    def recorded(step_logprobs: StepLogprobs) -> list[float]:
        steps_read.append(step_logprobs)
        return original(step_logprobs)

    monkeypatch.setattr(StepLogprobs, "read", recorded)
    steps = [sample(0), sample(1)]
    logprobs = Logprobs()
    logprobs.add(steps[0], 0)
    assert steps_read == []
    logprobs.add(steps[1], 0)
    assert steps_read == steps[:1]
