"""A batch's steps without an operation for each request."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any, TypeAlias

import mlx.core as mx
import pytest

from llm_tiered.mlx.engine import shared_steps
from llm_tiered.mlx.engine.shared_steps import SharedSteps, no_processors, share_steps
from llm_tiered.mlx.tokens import sampling
from llm_tiered.mlx.tokens.logprobs import SampledRow, StepLogprobs
from tests.tiny_models import NEVER, build

if TYPE_CHECKING:
    from pathlib import Path

GREEDY = sampling.make_sampler({})
PENALTY = sampling.make_penalties({"repetition_penalty": 1.5})

# When a prompt comes, in steps, its number of tokens, how many are generated, and its processors.
Prompt: TypeAlias = tuple[int, int, int, list[Any]]

PLAIN: list[Prompt] = [(0, 5, 12, []), (0, 9, 4, []), (3, 7, 10, []), (5, 3, 2, [])]


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model whose log-probabilities are of this type."""
    import mlx_lm

    folder: Path = build("qwen2", tmp_path_factory.mktemp("steps"), eos_bias=NEVER)
    model, *_ = mlx_lm.load(str(folder))
    model.set_dtype(getattr(mx, request.param))
    return model


@pytest.fixture(autouse=True)
def one_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let steps be shared by any number of requests."""
    monkeypatch.setattr(shared_steps, "FEWEST", 1)


def generator_for(model: Any) -> Any:
    """Return mlx-lm's generator."""
    from mlx_lm.generate import BatchGenerator

    return BatchGenerator(model, stop_tokens=[])


def generate(
    model: Any, prompts: list[Prompt], *, shared: bool
) -> tuple[dict[int, list[tuple[int, float]]], set[bool]]:
    """Return tokens and log-probabilities by prompt, and whether rows were sampled together."""
    generator = generator_for(model)
    if shared:
        SharedSteps(generator._generation_batch)
    answers: dict[int, list[tuple[int, float]]] = {}
    together = set[bool]()
    for step in range(40):
        for number, (at, length, most, processors) in enumerate(prompts):
            if at == step:
                generator.insert(
                    [[number + 3, *range(10, 9 + length)]],
                    [most],
                    samplers=[GREEDY],
                    logits_processors=[processors or no_processors()],
                )
        _, responses = generator.next()
        if responses:
            rows = [each.logprobs for each in responses]
            together |= {isinstance(row, SampledRow) for row in rows}
            step_logprobs = StepLogprobs([each.token for each in responses], rows, computed=True)
            for row, response in enumerate(responses):
                value = step_logprobs.read()[row]
                answers.setdefault(response.uid, []).append((response.token, value))
                assert step_logprobs.most_likely(row, 1)[0][1] >= value
    generator.close()
    return answers, together


def test_same_answers_as_without(model: Any) -> None:
    """Requests that come and go get the same tokens and log-probabilities as from mlx-lm."""
    answers, together = generate(model, PLAIN, shared=True)
    expected, _ = generate(model, PLAIN, shared=False)
    assert answers == expected
    assert [len(answer) for answer in answers.values()] == [12, 4, 10, 2]
    assert together == {True}


def test_a_request_of_another_kind_comes_and_goes(model: Any) -> None:
    """Steps of which a request needs its own processors are mlx-lm's."""
    prompts = [*PLAIN[:2], (3, 7, 4, PENALTY), *PLAIN[3:]]
    answers, together = generate(model, prompts, shared=True)
    expected, _ = generate(model, prompts, shared=False)
    assert answers == expected
    assert together == {True, False}


def test_few_requests(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of few requests are mlx-lm's; as requests come and go, the answers stay the same."""
    monkeypatch.setattr(shared_steps, "FEWEST", 3)
    answers, together = generate(model, PLAIN, shared=True)
    expected, _ = generate(model, PLAIN, shared=False)
    assert answers == expected
    assert together == {True, False}


def test_other_versions(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps of a version of mlx-lm that is not known are its own."""
    generator = generator_for(model)
    batch = generator._generation_batch
    monkeypatch.setattr(shared_steps, "version", lambda _: "0.33.0")
    share_steps(batch)
    assert "_step" not in vars(batch)
    monkeypatch.undo()
    share_steps(batch)
    assert "_step" in vars(batch)
    generator.close()


def test_a_generator_is_freed_at_once(model: Any) -> None:
    """No cycle of references keeps the KV caches."""
    generator = generator_for(model)
    SharedSteps(generator._generation_batch)
    batch = weakref.ref(generator._generation_batch)
    gc.disable()
    try:
        del generator
        assert batch() is None
    finally:
        gc.enable()
