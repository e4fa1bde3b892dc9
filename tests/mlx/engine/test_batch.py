"""Batches: each of several simultaneous requests gets the answer that it would get alone."""

from __future__ import annotations

import asyncio
import functools
import json
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from llm_tiered.errors import EngineError, RequestError
from llm_tiered.mlx import device
from llm_tiered.mlx.engine import batch
from llm_tiered.mlx.engine.batch import (
    BATCH_SIZE,
    PREFILL_BATCH_SIZE,
    SHORT_PROMPTS,
    Batch,
    _prefill_batch_size,
)
from llm_tiered.mlx.engine.engine import MAX_IN_FLIGHT
from llm_tiered.mlx.engine.kv import PrefixCache
from llm_tiered.mlx.engine.sequence import RunningSequence
from llm_tiered.mlx.engine.solo import Solo
from llm_tiered.mlx.tokens.decoding import Decoder
from llm_tiered.mlx.tokens.structured import Constraint
from tests.mlx.engine.batches import (
    GREEDY,
    Reader,
    check_all_slots_are_free,
    questions,
    start_together,
)
from tests.mlx.engine.faults import FailingCalls, Fault
from tests.mlx.models import PATIENCE, ask, async_local_model, details
from tests.tiny_models import build

if TYPE_CHECKING:
    from llm_tiered.mlx.models import AsyncMlxModel

NAME = "mlx/batch"
ENGINE_FOLDER = str(Path(batch.__file__).parent)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that never ends its turn."""
    return build("qwen2", tmp_path_factory.mktemp("batch"), layers=1, context=4096)


@pytest.fixture(scope="module")
def model(folder: Path) -> AsyncMlxModel:
    """The model that never ends its turn."""
    return async_local_model(folder, NAME)


@pytest.fixture(scope="module")
def terse(tmp_path_factory: pytest.TempPathFactory) -> AsyncMlxModel:
    """A model that ends its turn."""
    folder = build("phi3", tmp_path_factory.mktemp("terse"), layers=1, eos_bias=24.0)
    return async_local_model(folder, "mlx/batch-terse")


async def answers(model: AsyncMlxModel, count: int) -> list[str]:
    """Return the answers to the first questions, asked one after the other."""
    return [await ask(model, question, **GREEDY) for question in questions(count)]


async def test_together_as_one_by_one(model: AsyncMlxModel) -> None:
    """32 simultaneous requests get the answers that they get one by one."""
    alone = await answers(model, 32)
    together = await asyncio.gather(*(ask(model, each, **GREEDY) for each in questions(32)))
    assert together == alone
    assert len(set(alone)) > 28


async def test_newcomer_joins(model: AsyncMlxModel) -> None:
    """A request that joins a running batch is answered before the others, and changes nothing."""
    expected = await ask(model, "Hello", **GREEDY)
    alone = await answers(model, 3)
    readers = [Reader(model, question) for question in questions(3)]
    for reader in readers:
        await asyncio.wait_for(reader.has_begun.wait(), PATIENCE)
    assert await ask(model, "Hello", **GREEDY) == expected
    for reader in readers:
        assert not reader.task.done()
        reader.task.cancel()
    await asyncio.gather(*(reader.task for reader in readers), return_exceptions=True)
    for reader, text in zip(readers, alone, strict=True):
        assert reader.text.startswith(text)


async def test_options_of_one_request(model: AsyncMlxModel) -> None:
    """Temperature, penalty, stop strings, limit and schema apply to one request of a batch only."""
    schema: dict[str, Any] = {"enum": ["yes", "no"]}
    options: list[dict[str, Any]] = [
        GREEDY,
        {"temperature": 0, "max_tokens": 30, "repetition_penalty": 3},
        {"temperature": 0, "max_tokens": 5},
        {"temperature": 0, "max_tokens": 30, "stop": ["e", "a"]},
        {"temperature": 0, "max_tokens": 30, "schema": schema},
        {"temperature": 1, "max_tokens": 30, "top_k": 1},
        {"temperature": 1, "max_tokens": 30, "min_p": 1},
        {"temperature": 0, "max_tokens": 30},
    ]
    alone = [await ask(model, "Hello", **each) for each in options]
    hot = [ask(model, "Hello", temperature=2, max_tokens=30) for _ in range(3)]
    together = await asyncio.gather(*(ask(model, "Hello", **each) for each in options), *hot)
    assert together[: len(options)] == alone
    assert len({*together[len(options) :], alone[-1]}) == 4
    assert len({alone[0], alone[1], alone[2], alone[3], alone[4], alone[7]}) == 6
    assert alone[5] == alone[6] == alone[7]


async def test_finish_reasons(model: AsyncMlxModel, terse: AsyncMlxModel) -> None:
    """The finish reason names what ended an answer: the model, a stop string or a limit."""
    text = await ask(model, "Hello", **GREEDY)
    cases = [
        (model.prompt("Hello", **GREEDY), "length", 12),
        (model.prompt("Hello", **GREEDY, stop=text[:1]), "stop", 1),
        (model.prompt("Hello", schema={"const": 1}), "stop", 2),
    ]
    ended = [terse.prompt(each, temperature=0, max_tokens=150) for each in questions(8)]
    await asyncio.gather(*(each.text() for each, *_ in cases), *(each.text() for each in ended))
    for response, reason, count in cases:
        assert details(response)["finish_reason"] == reason
        assert (await response.usage()).output == count
    for response in ended:
        assert details(response)["finish_reason"] == "stop"
    counts = {(await response.usage()).output for response in ended}
    assert len(counts) > 3


@pytest.mark.parametrize("stop", [False, True])
async def test_tokens_come_before_kv_caches(
    model: AsyncMlxModel, monkeypatch: pytest.MonkeyPatch, *, stop: bool
) -> None:
    """Those that end in the same step all get their last token before any KV cache is stored."""
    text = await ask(model, "Hello", **GREEDY)
    check_all_slots_are_free()
    options: dict[str, Any] = {**GREEDY, **({"stop": text[-2:]} if stop else {})}
    happened: list[str] = []
    end, store = RunningSequence.end, PrefixCache.store

    def ends(sequence: RunningSequence) -> None:
        if not sequence._has_ended:
            happened.append("end")
        end(sequence)

    def stores(*arguments: Any) -> None:
        happened.append("store")
        store(*arguments)

    start_together(monkeypatch, 4)
    monkeypatch.setattr(RunningSequence, "end", ends)
    monkeypatch.setattr(PrefixCache, "store", stores)
    await asyncio.gather(*(ask(model, "Hello", **options) for _ in range(4)))
    # It comes after all of this.
    await ask(model, "Hello", **GREEDY)
    # The cache of the first answer, which was alone, may be stored late.
    first = happened.index("end")
    assert happened[first : first + 8] == ["end"] * 4 + ["store"] * 4


async def test_cancelling_one(model: AsyncMlxModel) -> None:
    """A request that is cancelled in the middle leaves the others unchanged."""
    expected = await answers(model, 6)
    endless = Reader(model, "Go on and on.")
    await asyncio.wait_for(endless.has_begun.wait(), PATIENCE)
    others = [asyncio.create_task(ask(model, each, **GREEDY)) for each in questions(6)]
    endless.task.cancel()
    assert await asyncio.gather(*others) == expected
    with pytest.raises(asyncio.CancelledError):
        await endless.task


def failures(outcomes: list[str | BaseException], expected: list[str]) -> list[str]:
    """Return the errors among the outcomes, and assert that the others are as expected."""
    errors = []
    for outcome, text in zip(outcomes, expected, strict=True):
        if isinstance(outcome, BaseException):
            assert isinstance(outcome, EngineError)
            errors.append(str(outcome))
        else:
            assert outcome == text
    return errors


async def test_insertion_fails(model: AsyncMlxModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that can't join fails, and those in the batch continue."""
    from mlx_lm.generate import BatchGenerator

    expected = await answers(model, 4)
    start_together(monkeypatch, 4)
    FailingCalls(monkeypatch, BatchGenerator, "insert_segments", at=[3])
    calls = [ask(model, each, **GREEDY) for each in questions(4)]
    errors = failures(await asyncio.gather(*calls, return_exceptions=True), expected)
    assert errors == [f"{NAME}: Fault: out of memory"]
    assert await answers(model, 4) == expected


@pytest.mark.parametrize("step", [0, 3])
async def test_mask_fails(step: int, model: AsyncMlxModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a schema's mask can't be computed, its own answer ends with the reason, and no other."""
    expected = await answers(model, 4)
    FailingCalls(monkeypatch, Constraint, "_masked", at=[step])
    calls = [ask(model, each, **GREEDY) for each in questions(4)]
    schema: dict[str, Any] = {"type": "string", "minLength": 30, "maxLength": 40}
    guided = ask(model, "Go.", schema=schema, temperature=1)
    *texts, error = await asyncio.gather(*calls, guided, return_exceptions=True)
    assert texts == expected
    assert isinstance(error, EngineError)
    assert "Fault: out of memory" in str(error)
    jsonschema.validate(json.loads(await ask(model, "Go.", schema=schema, temperature=1)), schema)


async def test_decoding_fails(model: AsyncMlxModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that can't be decoded ends its own answer and no other."""
    push, counts = Decoder.push, Counter[Decoder]()

    def fail(decoder: Decoder, token: int, _: None) -> Any:
        counts[decoder] += 1
        if counts[decoder] == 5 and decoder is next(iter(counts)):
            raise Fault("unreadable")
        return push(decoder, token)

    expected = await answers(model, 4)
    monkeypatch.setattr(Decoder, "push", fail)
    calls = [ask(model, each, **GREEDY) for each in questions(4)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert failures(outcomes, expected) == [f"{NAME}: Fault: unreadable"]
    assert sorted(counts.values()) == [5, 12, 12, 12]


async def test_errors_keep_nothing(model: AsyncMlxModel) -> None:
    """An error keeps nothing alive of what the worker held when it was raised."""
    with pytest.raises(RequestError) as cut_off:
        await ask(model, "Go.", schema={"type": "string", "minLength": 30}, max_tokens=5)
    with pytest.raises(RequestError) as refused:
        await ask(model, "Go.", schema={"type": "nonsense"})
    for error in (cut_off.value, refused.value):
        assert error.__context__ is None
        frames = {frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)}
        assert not any(name.startswith(ENGINE_FOLDER) for name in frames)


@pytest.mark.parametrize(("runner", "count"), [(Solo, 1), (Batch, 3)])
async def test_step_fails(
    runner: Any, count: int, model: AsyncMlxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected error in a step ends the requests of that runner, and not the worker."""
    expected = await ask(model, "Hello", **GREEDY)
    start_together(monkeypatch, count)
    step = FailingCalls(monkeypatch, runner, "step", at=[3])
    calls = [ask(model, "Hello", **GREEDY) for _ in range(count)]
    for error in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(error, EngineError)
        assert str(error) == f"{NAME}: Fault: out of memory"
    assert step.failures == 1
    assert await ask(model, "Hello", **GREEDY) == expected


async def test_generator_fails_to_close(
    model: AsyncMlxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure after the end of a batch affects no later request."""
    from mlx_lm.generate import BatchGenerator

    expected = await ask(model, "Hello", **GREEDY)
    close = FailingCalls(monkeypatch, BatchGenerator, "close", at=[0])
    for _ in range(2):
        start_together(monkeypatch, 2)
        both = await asyncio.gather(*(ask(model, "Hello", **GREEDY) for _ in range(2)))
        assert both == [expected] * 2
    assert close.failures == 1


async def test_cache_that_can_not_be_stored(
    model: AsyncMlxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If KV caches can't be stored, the answers are the same."""
    expected = await answers(model, 4)
    FailingCalls(monkeypatch, PrefixCache, "store")
    calls = [ask(model, each, **GREEDY) for each in questions(4)]
    endless = Reader(model, "Go on and on.")
    assert await asyncio.gather(*calls) == expected
    endless.task.cancel()
    await asyncio.gather(endless.task, return_exceptions=True)
    assert await answers(model, 4) == expected


@pytest.mark.parametrize("option", [{"top_k": 10**6}, {"top_k": 10**6, "seed": 1}], ids=str)
async def test_top_k_beyond_the_vocabulary(option: dict[str, Any], model: AsyncMlxModel) -> None:
    """A top_k beyond the vocabulary has no effect, and affects no other request, then or later."""
    hot: dict[str, Any] = {"temperature": 1, "max_tokens": 12}
    texts = await asyncio.gather(*(ask(model, each, **hot) for each in questions(3)))
    calls = [ask(model, each, **hot) for each in questions(3)]
    texts += await asyncio.gather(*calls, ask(model, "Hello", **hot, **option))
    assert len(set(texts)) == 7
    assert all([await ask(model, each, **hot) for each in questions(3)])


async def test_more_requests_than_slots(model: AsyncMlxModel) -> None:
    """However many requests come together, each gets its answer, and all slots are free again."""
    count = MAX_IN_FLIGHT + 60
    prompts = [f"{number}?" for number in range(count)]
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 3}
    texts = await asyncio.gather(*(ask(model, each, **options) for each in prompts))
    some = range(0, count, 45)
    assert [texts[n] for n in some] == [await ask(model, prompts[n], **options) for n in some]
    check_all_slots_are_free()


def reference(folder: Path, prompts: list[str], count: int) -> list[tuple[int, list[float]]]:
    """Return each prompt's length, and the log-probabilities of what mlx-lm itself generates."""
    import mlx_lm

    model, tokenizer = mlx_lm.load(str(folder))[:2]
    results = []
    for prompt in prompts:
        chat = [{"role": "user", "content": prompt}]
        tokens = tokenizer.apply_chat_template(chat, add_generation_prompt=True)
        generated = mlx_lm.stream_generate(model, tokenizer, tokens, max_tokens=count)
        logprobs = [response.logprobs[response.token].item() for response in generated]
        results.append((len(tokens), logprobs))
    return results


async def test_usage_and_statistics(model: AsyncMlxModel, folder: Path) -> None:
    """The counts and log-probabilities of each request are those of mlx-lm for the same tokens."""
    prompts = questions(3)
    responses = [model.prompt(each, temperature=0, max_tokens=40) for each in prompts]
    await asyncio.gather(*(each.text() for each in responses))
    expected = device.run_apart(functools.partial(reference, folder, prompts, 40))
    for response, (length, logprobs) in zip(responses, expected, strict=True):
        usage = await response.usage()
        assert (usage.input, usage.output) == (length, 40)
        statistics = details(response)
        assert statistics["mean_logprob"] == pytest.approx(sum(logprobs) / 40, abs=1e-3)
        assert statistics["lowest_logprob"] == pytest.approx(min(logprobs), abs=1e-3)
        assert statistics["peak_memory"] > 0


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        # Never fewer than that, however long they are.
        ([1000] * 20, PREFILL_BATCH_SIZE),
        ([4000] * 64, PREFILL_BATCH_SIZE),
        # All of them, if they are short.
        ([100] * 64, BATCH_SIZE),
        ([], BATCH_SIZE),
        # As many as fit.
        ([256] * 64, SHORT_PROMPTS // 256),
        # Up to a long one, which would make the others wait.
        ([20] * 30 + [500] + [20] * 30, 30),
    ],
)
def test_short_prompts_are_read_together(lengths: list[int], expected: int, folder: Path) -> None:
    """More prompts are read at the same time if that takes no longer than a few long ones."""
    import mlx_lm
    from mlx_lm.generate import BatchGenerator

    generator = BatchGenerator(mlx_lm.load(str(folder))[0])
    generator.insert([[1] * length for length in lengths])
    assert _prefill_batch_size(generator) == expected
    generator.close()
