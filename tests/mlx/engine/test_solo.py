"""Requests that no batch can serve: with a seed, a quantised KV cache or a draft model."""

from __future__ import annotations

import asyncio
import functools
import json
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.errors import EngineError, RequestError
from llm_tiered.mlx import device
from llm_tiered.mlx.catalog import ModelSpec
from llm_tiered.mlx.engine.requests import Limits
from llm_tiered.mlx.engine.solo import KV_GROUP_SIZE, Solo
from llm_tiered.mlx.models import AsyncMlxModel, MlxModel
from llm_tiered.mlx.tokens.decoding import Decoder
from tests import tiny_models
from tests.mlx.engine.faults import Fault
from tests.mlx.models import PATIENCE, details
from tests.mlx.models import ask as ask_model
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import llm

GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 24}
HOT: dict[str, Any] = {"temperature": 1, "max_tokens": 24}
ALONE: list[dict[str, Any]] = [{"seed": 3}, {"draft_model": "mlx/solo-draft"}]
# 24 tokens are not all equal by chance.
QUESTIONS = [f"What is {number} times {number}?" for number in range(4)]


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSpec]:
    """Models with heads of size 64 and 96, and a plain one with draft models."""
    root = tmp_path_factory.mktemp("solo")
    folders = {
        "wide": build("phi3", root / "wide", hidden=256),
        "wider": build("phi3", root / "wider", hidden=384),
        "plain": build("qwen2", root / "plain", context=4096),
        "draft": build("qwen2", root / "draft", layers=1, seed=1),
        "terse": build("qwen2", root / "terse", layers=1, eos_bias=20.0),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_models, "CORPUS", "a b c\n")
        folders["other"] = build("qwen2", root / "other", layers=1)
    return {
        f"mlx/solo-{name}": ModelSpec(model_id=f"mlx/solo-{name}", path=folder)
        for name, folder in folders.items()
    }


@pytest.fixture(scope="module")
def models(specs: dict[str, ModelSpec]) -> dict[str, llm.Model]:
    """The same models, as llm sees them."""
    return {name: MlxModel(spec, Limits, specs.get) for name, spec in specs.items()}


@pytest.fixture(scope="module")
def plain(models: dict[str, llm.Model]) -> llm.Model:
    """The plain one of these models."""
    return models["mlx/solo-plain"]


@pytest.fixture
def ask(specs: dict[str, ModelSpec]) -> Any:
    """Return the answer of the async plain model."""
    return functools.partial(ask_model, AsyncMlxModel(specs["mlx/solo-plain"], Limits, specs.get))


@pytest.mark.parametrize("seed", [0, 7])
async def test_seed_among_others(seed: int, ask: Any) -> None:
    """A seed gives the same answer alone, among other seeds and among requests without one."""
    alone = await ask("Hello", seed=seed, **HOT)
    seeds = [seed, seed + 1, seed, seed + 2]
    texts, *others = await asyncio.gather(
        asyncio.gather(*(ask("Hello", seed=each, **HOT) for each in seeds)),
        *(ask(question, **HOT) for question in QUESTIONS),
        *(ask(question, **GREEDY) for question in QUESTIONS),
    )
    assert [text == alone for text in texts] == [True, False, True, False]
    assert len(set(others)) == len(others)
    greedy = [await ask(question, **GREEDY) for question in QUESTIONS]
    assert others[len(QUESTIONS) :] == greedy


@pytest.mark.parametrize("option", [{"top_p": 0.7}, {"min_p": 0.2}, {"top_k": 3}], ids=str)
def test_seed_with_sampling_options(option: dict[str, Any], plain: llm.Model) -> None:
    """top_p, min_p and top_k apply with a seed too."""
    texts = {plain.prompt("Hello", seed=5, **HOT, **option).text() for _ in range(2)}
    texts.add(plain.prompt("Hello", seed=5, **HOT).text())
    assert len(texts) == 2


def test_seed_at_temperature_0(plain: llm.Model) -> None:
    """At temperature 0 a seed changes nothing."""
    assert plain.prompt("Hello", seed=5, **GREEDY).text() == plain.prompt("Hello", **GREEDY).text()


def test_seed_uses_no_cache(plain: llm.Model) -> None:
    """With a seed no cached tokens are used, so that the answer is reproducible."""
    plain.prompt("Hello", **GREEDY).text()
    plain.prompt("Hello", draft_model="mlx/solo-draft", **GREEDY).text()
    variants: list[dict[str, Any]] = [{}, {"draft_model": "mlx/solo-draft"}]
    for options in variants:
        response = plain.prompt("Hello", seed=3, **GREEDY, **options)
        assert response.text()
        assert response.usage().details is None


@pytest.mark.parametrize("options", ALONE, ids=str)
def test_stop_and_limit(options: dict[str, Any], plain: llm.Model) -> None:
    """Stop strings and max_tokens end these answers too, with finish reason and token count."""
    complete = plain.prompt("Hello", **GREEDY).text()
    stopped = plain.prompt("Hello", stop=complete[5:8], **GREEDY, **options)
    assert stopped.text() == complete[: complete.index(complete[5:8])]
    assert details(stopped)["finish_reason"] == "stop"
    for limit in (1, 2, 3, 4, 5):
        cut = plain.prompt("Hello", temperature=0, max_tokens=limit, **options)
        assert complete.startswith(cut.text())
        assert (cut.usage().output, details(cut)["finish_reason"]) == (limit, "length")


@pytest.mark.parametrize("options", ALONE, ids=str)
def test_model_ends_its_turn(options: dict[str, Any], models: dict[str, llm.Model]) -> None:
    """The model ends its turn as in a batch."""
    terse = models["mlx/solo-terse"]
    limits: dict[str, Any] = {"temperature": 0, "max_tokens": 200}
    counts = set()
    for question in QUESTIONS:
        expected = terse.prompt(question, **limits)
        response = terse.prompt(question, **limits, **options)
        assert response.text() == expected.text()
        assert response.usage().output == expected.usage().output
        assert details(response)["finish_reason"] == details(expected)["finish_reason"]
        counts.add(response.usage().output)
    assert len(counts) > 1


def quantised(folder: Path, bits: int) -> str:
    """Return mlx-lm's own answer with a KV cache that is quantised from the first token on."""
    import mlx_lm
    from mlx_lm.models.cache import QuantizedKVCache

    model, tokenizer = mlx_lm.load(str(folder))[:2]
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello"}], add_generation_prompt=True
    )
    text: str = mlx_lm.generate(
        model,
        tokenizer,
        prompt,
        max_tokens=GREEDY["max_tokens"],
        prompt_cache=[QuantizedKVCache(KV_GROUP_SIZE, bits) for _ in model.layers],
    )
    return text


@pytest.mark.parametrize(("name", "bits"), [("mlx/solo-wide", 4), ("mlx/solo-wider", 8)])
def test_quantised_cache(
    name: str, bits: int, models: dict[str, llm.Model], specs: dict[str, ModelSpec]
) -> None:
    """kv_bits gives mlx-lm's answer, for heads of size 64 and for those of 96 as in Phi-3.5."""
    folder = specs[name].path
    assert folder
    text = models[name].prompt("Hello", kv_bits=bits, **GREEDY).text()
    assert text == device.run_apart(functools.partial(quantised, folder, bits))


def test_quantised_cache_and_draft(models: dict[str, llm.Model]) -> None:
    """kv_bits applies with a draft model too."""
    wide = models["mlx/solo-wide"]
    draft = {"draft_model": "mlx/solo-wide"}
    plain, quantised, both = (
        wide.prompt("Hello", **GREEDY, **options).text()
        for options in ({}, {"kv_bits": 4}, {"kv_bits": 4, **draft})
    )
    assert both == quantised != plain


def test_cache_that_can_not_be_quantised(plain: llm.Model) -> None:
    """A model whose heads are too small for kv_bits is refused, with what to do."""
    with pytest.raises(RequestError, match=r"solo-plain.* 16, .*leave kv_bits out"):
        plain.prompt("Hello", kv_bits=8, **GREEDY).text()
    assert plain.prompt("Hello", **GREEDY).text()


@pytest.mark.parametrize(
    ("draft", "options"),
    [
        ("mlx/solo-draft", {}),
        ("mlx/solo-plain", {}),
        ("mlx/solo-draft", {"repetition_penalty": 2}),
    ],
    ids=str,
)
def test_draft_changes_nothing(draft: str, options: dict[str, Any], plain: llm.Model) -> None:
    """At temperature 0, the answer does not depend on the draft model."""
    for question in QUESTIONS[:2]:
        expected = plain.prompt(question, **GREEDY, **options).text()
        assert plain.prompt(question, draft_model=draft, **GREEDY, **options).text() == expected


def test_draft_and_seed(plain: llm.Model) -> None:
    """A seed gives the same answer each time with a draft model too."""
    draft: dict[str, Any] = {"draft_model": "mlx/solo-draft"}
    first, again, other = (
        plain.prompt("Hello", seed=seed, **HOT, **draft).text() for seed in (0, 0, 1)
    )
    assert first == again != other


@pytest.mark.parametrize("temperature", [0, 1])
def test_draft_and_schema(temperature: int, plain: llm.Model) -> None:
    """An answer fits its schema with a draft model too."""
    schema: dict[str, Any] = {
        "type": "array",
        "items": {"enum": ["do", "re", "mi"]},
        "minItems": 4,
        "maxItems": 6,
    }
    options: dict[str, Any] = {"schema": schema, "temperature": temperature}
    text = plain.prompt("Sing.", draft_model="mlx/solo-draft", **options).text()
    assert len(json.loads(text)) in range(4, 7)
    assert temperature or text == plain.prompt("Sing.", **options).text()


def test_draft_of_another_vocabulary(plain: llm.Model) -> None:
    """A draft model with another vocabulary is refused, and the error names both models."""
    with pytest.raises(RequestError, match=r"solo-other .*solo-plain.*vocabularies"):
        plain.prompt("Hello", draft_model="mlx/solo-other", **GREEDY).text()


def test_unknown_draft(plain: llm.Model) -> None:
    """An unknown draft model is refused by name."""
    with pytest.raises(RequestError, match="no local model is called 'gpt'"):
        plain.prompt("Hello", draft_model="gpt", **GREEDY).text()


async def test_failure(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure of such a request ends it and no other."""
    push = Decoder.push

    def fail(self: Decoder, token: int, _: None) -> Any:
        counts[self] = counts.get(self, 0) + 1
        if counts[self] == 5 and len(counts) == 1:
            raise Fault("unreadable")
        return push(self, token)

    counts: dict[Decoder, int] = {}
    expected = [await ask("Hello", seed=seed, **HOT) for seed in range(3)]
    monkeypatch.setattr(Decoder, "push", fail)
    with pytest.raises(EngineError, match="mlx/solo-plain: Fault: unreadable"):
        await ask("Hello", seed=0, **HOT)
    texts = await asyncio.gather(*(ask("Hello", seed=seed, **HOT) for seed in range(3)))
    assert texts == expected


async def test_generator_fails_to_close(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure after the end of an answer affects neither it nor later ones."""
    generate = Solo._generate

    def stuck(self: Solo, *args: Any) -> Iterator[Any]:
        try:
            yield from generate(self, *args)
        finally:
            raise Fault("stuck")

    expected = await ask("Hello", seed=0, **HOT)
    monkeypatch.setattr(Solo, "_generate", stuck)
    assert [await ask("Hello", seed=0, **HOT) for _ in range(2)] == [expected] * 2


async def test_cancelling(specs: dict[str, ModelSpec], ask: Any) -> None:
    """Such requests can be cancelled while they generate and while they wait."""
    model = AsyncMlxModel(specs["mlx/solo-plain"], Limits, specs.get)
    has_begun = asyncio.Event()

    async def read(seed: int) -> None:
        async for _ in model.prompt("Go on and on.", seed=seed, max_tokens=3000):
            has_begun.set()

    tasks = [asyncio.create_task(read(seed)) for seed in range(3)]
    await asyncio.wait_for(has_begun.wait(), PATIENCE)
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    assert await ask("Hello", seed=0, **HOT) == await ask("Hello", seed=0, **HOT)
