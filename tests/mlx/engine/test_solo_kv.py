"""Cached prefixes of requests with a quantised KV cache or a draft model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import llm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_tiered.errors import EngineError
from llm_tiered.mlx.catalog import ModelSpec
from llm_tiered.mlx.engine.requests import Limits
from llm_tiered.mlx.models import MlxModel
from tests.mlx.engine.conversations import Conversations, Step, steps
from tests.mlx.engine.faults import FailingCalls
from tests.tiny_models import build

if TYPE_CHECKING:
    from pathlib import Path

    from llm_tiered.mlx.engine.engine import Engine

NAME, DRAFT, OTHER = "mlx/solo-kv", "mlx/solo-kv-draft", "mlx/solo-kv-other"
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 8}
KINDS: list[dict[str, Any]] = [
    {"kv_bits": 8},
    {"kv_bits": 4},
    {"draft_model": DRAFT},
    {"kv_bits": 8, "draft_model": DRAFT},
]
# Prompts with different system prompts have at most this number of tokens in common.
OPENING = 5
STORY = "Let us talk about scales, and which of them sounds most like the sea at night."


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSpec]:
    """A model with heads of size 32, and two draft models."""
    root = tmp_path_factory.mktemp("solo-kv")
    folders = {
        NAME: build("qwen2", root / "plain", layers=1, hidden=128, context=4096),
        DRAFT: build("qwen2", root / "draft", seed=1, context=4096),
        OTHER: build("qwen2", root / "other", layers=1, seed=2, context=4096),
    }
    return {name: ModelSpec(model_id=name, path=folder) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def model(specs: dict[str, ModelSpec]) -> llm.Model:
    """The model with heads of size 32, as llm sees it."""
    return MlxModel(specs[NAME], Limits, specs.get)


def folder_of(spec: ModelSpec) -> Path:
    """Return the folder of a model."""
    assert spec.path
    return spec.path


def cached(response: llm.Response) -> int:
    """Return the number of the prompt's tokens that were cached."""
    response.text()
    details: Any = response.usage().details
    return details["cached_tokens"] if details else 0


def length(response: llm.Response) -> int:
    """Return the number of the prompt's tokens."""
    return response.usage().input or 0


@pytest.mark.parametrize("kind", KINDS, ids=str)
@settings(max_examples=4, deadline=None, derandomize=True, database=None)
@given(rounds=st.lists(st.lists(steps, min_size=1, max_size=3), min_size=3, max_size=4))
def test_answers_are_those_without_a_cache(
    kind: dict[str, Any], engine: Engine, specs: dict[str, ModelSpec], rounds: list[list[Step]]
) -> None:
    """Conversations that continue, branch off, or are cut or cancelled get the same answers."""
    fields = {"kv_bits": kind.get("kv_bits")}
    if "draft_model" in kind:
        fields["draft"] = (DRAFT, folder_of(specs[DRAFT]))
    assert Conversations(engine, folder_of(specs[NAME]), fields).compare(rounds) > 0


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_conversation(kind: dict[str, Any], model: llm.Model) -> None:
    """The earlier turns of a conversation are cached, also when it branches off."""
    conversation = model.conversation()
    counts, lengths = [], []
    for question in (STORY, "Which one?", "Why?"):
        turn = conversation.prompt(question, system=f"{kind}", **GREEDY, **kind)
        counts.append(cached(turn))
        lengths.append(length(turn))
    # A draft model's cache ends a token or two before the answer does.
    assert lengths[0] - 2 <= counts[1] < lengths[1] - 2 <= counts[2] < lengths[2]
    fork = llm.Conversation(model=model, responses=conversation.responses[:1])
    turn = fork.prompt("No, chords!", system=f"{kind}", **GREEDY, **kind)
    assert lengths[0] - 2 <= cached(turn) < lengths[1]


def test_kinds_do_not_mix(model: llm.Model) -> None:
    """A cache of one kind serves no request that needs another kind."""
    kinds = [{}, *KINDS, {"draft_model": OTHER}]
    options: dict[str, Any] = {"system": "To each his own.", **GREEDY}
    for kind in kinds:
        assert cached(model.prompt("Hello", **options, **kind)) <= OPENING
    for kind in kinds:
        assert cached(model.prompt("Hello", **options, **kind)) > OPENING


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_seed(kind: dict[str, Any], model: llm.Model) -> None:
    """With a seed, the whole prompt is processed each time, and no cache is kept."""
    options: dict[str, Any] = {"system": f"Seeds and {kind}", **GREEDY, **kind}
    for _ in range(2):
        assert cached(model.prompt("Once more.", seed=1, **options)) == 0
    assert cached(model.prompt("Once more.", **options)) <= OPENING


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_cancelled_prompt(kind: dict[str, Any], model: llm.Model) -> None:
    """The cache of a cancelled request serves the next one."""
    options: dict[str, Any] = {"temperature": 0, **kind}
    for count in (1, 2, 3, 4):
        prompt = f"{count} pieces of that one."
        pieces = iter(model.prompt(prompt, max_tokens=500, **options))
        for _ in range(count):
            next(pieces)
        del pieces
        model.prompt("Something else.", max_tokens=2, **options).text()
        response = model.prompt(prompt, max_tokens=20, **options)
        assert cached(response) >= length(response) - 2
        assert response.text() == model.prompt(prompt, max_tokens=20, seed=1, **options).text()


@pytest.mark.parametrize("kind", KINDS[:2], ids=str)
def test_repetition_penalty(kind: dict[str, Any], model: llm.Model) -> None:
    """The repetition penalty covers cached tokens too."""
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 30, "repetition_penalty": 2, **kind}
    prompt = f"{kind} la la la la la"
    model.prompt(prompt, **options).text()
    again = model.prompt(prompt, **options)
    assert cached(again) == length(again) - 1
    assert again.text() == model.prompt(prompt, seed=1, **options).text()


def test_repetition_penalty_without_a_batch(model: llm.Model) -> None:
    """The repetition penalty covers the same tokens with and without a seed."""
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 30, "repetition_penalty": 2}
    prompt = "la la la la la"
    assert model.prompt(prompt, seed=1, **options).text() == model.prompt(prompt, **options).text()


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_failure(kind: dict[str, Any], model: llm.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure of MLX, no cache is kept."""
    import mlx.core as mx

    options: dict[str, Any] = {"system": f"No luck with {kind}", **GREEDY, **kind}
    expected = model.prompt("Just one thing.", seed=1, **options).text()
    with monkeypatch.context() as patch:
        FailingCalls(patch, mx, "clear_cache", at=[0])
        with pytest.raises(EngineError, match="out of memory"):
            model.prompt("Just one thing.", **options).text()
    response = model.prompt("Just one thing.", **options)
    assert cached(response) <= OPENING
    assert response.text() == expected


@pytest.mark.parametrize("limit", [21, 22, 23, 24])
def test_draft_keeps_up(limit: int, model: llm.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a cached conversation, a draft model guesses as well as without."""
    from mlx_lm.models import qwen2

    call, calls = qwen2.Model.__call__, 0

    def count(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        return call(self, *args, **kwargs)

    monkeypatch.setattr(qwen2.Model, "__call__", count)
    conversation = model.conversation()
    counts = []
    for question in (STORY, "Which one?", "Why?"):
        calls = 0
        # The model is its own draft model, so every guess is right.
        turn = conversation.prompt(
            question, system=f"{limit}", temperature=0, max_tokens=limit, draft_model=NAME
        )
        turn.text()
        counts.append(calls)
    assert max(counts) < limit + 8
