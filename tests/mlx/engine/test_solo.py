"""Requests that are served by themselves: with a seed, a quantised KV cache or a draft model."""

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
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import llm

GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 24}
HOT: dict[str, Any] = {"temperature": 1, "max_tokens": 24}
ALONE: list[dict[str, Any]] = [{"seed": 3}, {"draft_model": "mlx/solo-draft"}]
PATIENCE = 30  # seconds, for what takes far less
# 24 tokens can't all be alike by chance.
QUESTIONS = [f"What is {number} times {number}?" for number in range(4)]


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSpec]:
    """Give models with heads of 64 and 96, and a plain one with others that guess for it."""
    root = tmp_path_factory.mktemp("solo")
    folders = {
        "wide": build("phi3", root / "wide", hidden=256),
        "wider": build("phi3", root / "wider", hidden=384),
        "plain": build("qwen2", root / "plain", context=4096),
        "draft": build("qwen2", root / "draft", layers=1, seed=1),
        "terse": build("qwen2", root / "terse", layers=1, eos_bias=24.0),
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
    """Give them as llm's models, which know each other."""
    return {name: MlxModel(spec, Limits, specs.get) for name, spec in specs.items()}


@pytest.fixture(scope="module")
def plain(models: dict[str, llm.Model]) -> llm.Model:
    """Give the plain one."""
    return models["mlx/solo-plain"]


@pytest.fixture
def ask(specs: dict[str, ModelSpec]) -> Any:
    """Ask the plain one from a task."""
    model = AsyncMlxModel(specs["mlx/solo-plain"], Limits, specs.get)

    async def ask(prompt: str, **options: Any) -> str:
        text: str = await asyncio.wait_for(model.prompt(prompt, **options).text(), PATIENCE)
        return text

    return ask


def details(response: llm.Response) -> dict[str, Any]:
    """Give what is said of an answer beside its text."""
    found: Any = response.response_json
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("seed", [0, 7])
async def test_seed_among_others(seed: int, ask: Any) -> None:
    """A seed gives the same answer alone, among other seeds and among requests without one."""
    alone = await ask("Hello", seed=seed, **HOT)
    seeds = [seed, seed + 1, seed, seed + 2]
    found, *others = await asyncio.gather(
        asyncio.gather(*(ask("Hello", seed=each, **HOT) for each in seeds)),
        *(ask(question, **HOT) for question in QUESTIONS),
        *(ask(question, **GREEDY) for question in QUESTIONS),
    )
    assert [text == alone for text in found] == [True, False, True, False]
    assert len(set(others)) == len(others)
    greedy = [await ask(question, **GREEDY) for question in QUESTIONS]
    assert others[len(QUESTIONS) :] == greedy


@pytest.mark.parametrize("option", [{"top_p": 0.7}, {"min_p": 0.2}, {"top_k": 3}], ids=str)
def test_seed_with_sampling_options(option: dict[str, Any], plain: llm.Model) -> None:
    """With a seed, top_p, min_p and top_k hold too."""
    texts = {plain.prompt("Hello", seed=5, **HOT, **option).text() for _ in range(2)}
    texts.add(plain.prompt("Hello", seed=5, **HOT).text())
    assert len(texts) == 2


def test_seed_at_temperature_0(plain: llm.Model) -> None:
    """Without randomness a seed changes nothing."""
    assert plain.prompt("Hello", seed=5, **GREEDY).text() == plain.prompt("Hello", **GREEDY).text()


def test_all_of_the_prompt_is_read(plain: llm.Model) -> None:
    """With a seed, what was read before is not used again, so that it repeats."""
    plain.prompt("Hello", **GREEDY).text()
    plain.prompt("Hello", draft_model="mlx/solo-draft", **GREEDY).text()
    ways: list[dict[str, Any]] = [{}, {"draft_model": "mlx/solo-draft"}]
    for options in ways:
        response = plain.prompt("Hello", seed=3, **GREEDY, **options)
        assert response.text()
        assert response.usage().details is None


@pytest.mark.parametrize("options", ALONE, ids=str)
def test_stop_and_limit(options: dict[str, Any], plain: llm.Model) -> None:
    """Stop strings and max_tokens end these answers too, with the reason and the right count."""
    whole = plain.prompt("Hello", **GREEDY).text()
    stopped = plain.prompt("Hello", stop=whole[5:8], **GREEDY, **options)
    assert stopped.text() == whole[: whole.index(whole[5:8])]
    assert details(stopped)["finish_reason"] == "stop"
    for limit in (1, 2, 3, 4, 5):
        cut = plain.prompt("Hello", temperature=0, max_tokens=limit, **options)
        assert whole.startswith(cut.text())
        assert (cut.usage().output, details(cut)["finish_reason"]) == (limit, "length")


@pytest.mark.parametrize("options", ALONE, ids=str)
def test_model_ends_its_turn(options: dict[str, Any], models: dict[str, llm.Model]) -> None:
    """A model that ends its turn does so here as in a batch."""
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
    """What mlx-lm itself answers with a KV cache that has so many bits from the first token on."""
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
    """kv_bits gives what mlx-lm gives, with heads of 64 and with those of 96 that Phi-3.5 has."""
    folder = specs[name].path
    assert folder
    text = models[name].prompt("Hello", kv_bits=bits, **GREEDY).text()
    assert text == device.run_apart(functools.partial(quantised, folder, bits))


def test_quantised_cache_and_draft(models: dict[str, llm.Model]) -> None:
    """With a draft model, kv_bits holds as without."""
    wide = models["mlx/solo-wide"]
    draft = {"draft_model": "mlx/solo-wide"}
    plain, quantised, both = (
        wide.prompt("Hello", **GREEDY, **options).text()
        for options in ({}, {"kv_bits": 4}, {"kv_bits": 4, **draft})
    )
    assert both == quantised != plain


def test_cache_that_can_not_be_quantised(plain: llm.Model) -> None:
    """A model whose heads are too small for kv_bits says so, and what to do."""
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
    """Whatever the draft model guesses, the answer is that of the model at temperature 0."""
    for question in QUESTIONS[:2]:
        expected = plain.prompt(question, **GREEDY, **options).text()
        assert plain.prompt(question, draft_model=draft, **GREEDY, **options).text() == expected


def test_draft_and_seed(plain: llm.Model) -> None:
    """With a draft model, too, a seed gives the same answer each time."""
    draft: dict[str, Any] = {"draft_model": "mlx/solo-draft"}
    first, again, other = (
        plain.prompt("Hello", seed=seed, **HOT, **draft).text() for seed in (0, 0, 1)
    )
    assert first == again != other


@pytest.mark.parametrize("temperature", [0, 1])
def test_draft_and_schema(temperature: int, plain: llm.Model) -> None:
    """With a draft model, an answer fits its schema as without."""
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
    """A draft model whose tokens mean something else is refused by name."""
    with pytest.raises(RequestError, match=r"solo-other .*solo-plain.*vocabularies"):
        plain.prompt("Hello", draft_model="mlx/solo-other", **GREEDY).text()


def test_draft_that_nobody_knows(plain: llm.Model) -> None:
    """A draft model that is none is refused by name."""
    with pytest.raises(RequestError, match="no local model is called 'gpt'"):
        plain.prompt("Hello", draft_model="gpt", **GREEDY).text()


async def test_failure(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong with such a request ends it and no other."""
    push = Decoder.push

    def fail(self: Decoder, token: int) -> Any:
        counts[self] = counts.get(self, 0) + 1
        if counts[self] == 5 and len(counts) == 1:
            raise ValueError("unreadable")
        return push(self, token)

    counts: dict[Decoder, int] = {}
    expected = [await ask("Hello", seed=seed, **HOT) for seed in range(3)]
    monkeypatch.setattr(Decoder, "push", fail)
    with pytest.raises(EngineError, match="mlx/solo-plain: ValueError: unreadable"):
        await ask("Hello", seed=0, **HOT)
    found = await asyncio.gather(*(ask("Hello", seed=seed, **HOT) for seed in range(3)))
    assert found == expected


async def test_generator_that_does_not_close(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong after an answer harms neither it nor those who come next."""
    generate = Solo._generate

    def stuck(self: Solo, *args: Any) -> Iterator[Any]:
        try:
            yield from generate(self, *args)
        finally:
            raise RuntimeError("stuck")

    expected = await ask("Hello", seed=0, **HOT)
    monkeypatch.setattr(Solo, "_generate", stuck)
    assert [await ask("Hello", seed=0, **HOT) for _ in range(2)] == [expected] * 2


async def test_cancelling(specs: dict[str, ModelSpec], ask: Any) -> None:
    """Such a request can be cancelled in the middle, and one that waits can, too."""
    model = AsyncMlxModel(specs["mlx/solo-plain"], Limits, specs.get)
    started = asyncio.Event()

    async def read(seed: int) -> None:
        async for _ in model.prompt("Go on and on.", seed=seed, max_tokens=3000):
            started.set()

    tasks = [asyncio.create_task(read(seed)) for seed in range(3)]
    await asyncio.wait_for(started.wait(), PATIENCE)
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ended)
    assert await ask("Hello", seed=0, **HOT) == await ask("Hello", seed=0, **HOT)
