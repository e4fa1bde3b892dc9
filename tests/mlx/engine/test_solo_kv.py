"""What requests with a KV cache of their own have read before is not read again, either."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import llm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_tiered.errors import EngineError
from llm_tiered.mlx.catalog import ModelSpec
from llm_tiered.mlx.engine.engine import Engine
from llm_tiered.mlx.engine.requests import Limits
from llm_tiered.mlx.models import MlxModel
from tests.mlx.engine.batches import Fault
from tests.mlx.engine.talk import Step, Talk, steps
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLENTY = 10**9
NAME, DRAFT, OTHER = "mlx/solo-kv", "mlx/solo-kv-draft", "mlx/solo-kv-other"
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 8}
KINDS: list[dict[str, Any]] = [
    {"kv_bits": 8},
    {"kv_bits": 4},
    {"draft_model": DRAFT},
    {"kv_bits": 8, "draft_model": DRAFT},
]
# All prompts have so many tokens in common at most, if their system prompts differ.
OPENING = 5
STORY = "Let us talk about scales, and which of them sounds most like the sea at night."


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSpec]:
    """Give a model with heads of 32, and two that guess for it."""
    root = tmp_path_factory.mktemp("solo-kv")
    folders = {
        NAME: build("qwen2", root / "plain", hidden=128, context=4096),
        DRAFT: build("qwen2", root / "draft", layers=1, seed=1, context=4096),
        OTHER: build("qwen2", root / "other", layers=1, seed=2, context=4096),
    }
    return {name: ModelSpec(model_id=name, path=folder) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def model(specs: dict[str, ModelSpec]) -> llm.Model:
    """Give it as llm's model."""
    return MlxModel(specs[NAME], Limits, specs.get)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Give an engine of the tests' own."""
    engine = Engine()
    yield engine
    engine.close()


def folder_of(spec: ModelSpec) -> Path:
    """Where the model is."""
    assert spec.path
    return spec.path


def cached(response: llm.Response) -> int:
    """How many tokens of an answer's prompt were not read again."""
    response.text()
    details: Any = response.usage().details
    return details["cached_tokens"] if details else 0


def length(response: llm.Response) -> int:
    """How many tokens a prompt has."""
    return response.usage().input or 0


@pytest.mark.parametrize("kind", KINDS, ids=str)
@settings(max_examples=4, deadline=None, derandomize=True, database=None)
@given(rounds=st.lists(st.lists(steps, min_size=1, max_size=3), min_size=3, max_size=4))
def test_answers_are_those_of_a_full_reading(
    kind: dict[str, Any], engine: Engine, specs: dict[str, ModelSpec], rounds: list[list[Step]]
) -> None:
    """Conversations that go on, fork, are cut and cancelled, several at once, change no answer."""
    said = {"kv_bits": kind.get("kv_bits")}
    if "draft_model" in kind:
        said["draft"] = (DRAFT, folder_of(specs[DRAFT]))
    assert Talk(engine, NAME, folder_of(specs[NAME]), PLENTY, said).compare(rounds) > 0


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_conversation(kind: dict[str, Any], model: llm.Model) -> None:
    """The turns so far are not read again, each time one is added, nor on another way on."""
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
    """What was read into one kind of cache serves no request for another kind."""
    kinds = [{}, *KINDS, {"draft_model": OTHER}]
    asked: dict[str, Any] = {"system": "To each his own.", **GREEDY}
    for kind in kinds:
        assert cached(model.prompt("Hello", **asked, **kind)) <= OPENING
    for kind in kinds:
        assert cached(model.prompt("Hello", **asked, **kind)) > OPENING


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_seed(kind: dict[str, Any], model: llm.Model) -> None:
    """With a seed, all is read each time, and nothing is kept."""
    asked: dict[str, Any] = {"system": f"Seeds and {kind}", **GREEDY, **kind}
    for _ in range(2):
        assert cached(model.prompt("Once more.", seed=1, **asked)) == 0
    assert cached(model.prompt("Once more.", **asked)) <= OPENING


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_cancelled_prompt(kind: dict[str, Any], model: llm.Model) -> None:
    """What was read for an answer that nobody waits for serves the next one."""
    options: dict[str, Any] = {"temperature": 0, **kind}
    for pieces_read in (1, 2, 3, 4):
        prompt = f"{pieces_read} pieces of that one."
        pieces = iter(model.prompt(prompt, max_tokens=500, **options))
        for _ in range(pieces_read):
            next(pieces)
        del pieces
        model.prompt("Something else.", max_tokens=2, **options).text()
        response = model.prompt(prompt, max_tokens=20, **options)
        assert cached(response) >= length(response) - 2
        assert response.text() == model.prompt(prompt, max_tokens=20, seed=1, **options).text()


@pytest.mark.parametrize("kind", KINDS[:2], ids=str)
def test_repetition_penalty(kind: dict[str, Any], model: llm.Model) -> None:
    """What was said lately gets less likely, whether it was read just now or before."""
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 30, "repetition_penalty": 2, **kind}
    prompt = f"{kind} la la la la la"
    model.prompt(prompt, **options).text()
    again = model.prompt(prompt, **options)
    assert cached(again) == length(again) - 1
    assert again.text() == model.prompt(prompt, seed=1, **options).text()


def test_repetition_penalty_alone(model: llm.Model) -> None:
    """By itself and in a batch, a request is penalised for the same tokens."""
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 30, "repetition_penalty": 2}
    prompt = "la la la la la"
    assert model.prompt(prompt, seed=1, **options).text() == model.prompt(prompt, **options).text()


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_failure(kind: dict[str, Any], model: llm.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an answer that MLX fails at nothing is kept."""
    import mlx.core as mx

    asked: dict[str, Any] = {"system": f"No luck with {kind}", **GREEDY, **kind}
    clear = mx.clear_cache
    left = iter([True])

    def fail() -> None:
        if next(left, False):
            raise Fault("out of memory")
        clear()

    expected = model.prompt("Just one thing.", seed=1, **asked).text()
    with monkeypatch.context() as patch:
        patch.setattr(mx, "clear_cache", fail)
        with pytest.raises(EngineError, match="out of memory"):
            model.prompt("Just one thing.", **asked).text()
    response = model.prompt("Just one thing.", **asked)
    assert cached(response) <= OPENING
    assert response.text() == expected


@pytest.mark.parametrize("limit", [21, 22, 23, 24])
def test_draft_keeps_up(limit: int, model: llm.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A draft model that has not read a conversation again guesses as well as before."""
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
        # It guesses for itself, and is always right.
        turn = conversation.prompt(
            question, system=f"{limit}", temperature=0, max_tokens=limit, draft_model=NAME
        )
        turn.text()
        counts.append(calls)
    assert max(counts) < limit + 8
