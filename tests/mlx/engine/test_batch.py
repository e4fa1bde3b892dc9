"""Many requests at once on one model: each keeps what is its own."""

from __future__ import annotations

import asyncio
import functools
import json
import traceback
from collections import Counter
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from llm_tiered.errors import EngineError, RequestError
from llm_tiered.mlx import device
from llm_tiered.mlx.engine.batch import Batch
from llm_tiered.mlx.engine.engine import ENGINE, MAX_IN_FLIGHT
from llm_tiered.mlx.engine.kv import PrefixCache
from llm_tiered.mlx.engine.solo import Solo
from llm_tiered.mlx.tokens.decoding import Decoder
from llm_tiered.mlx.tokens.structured import Constraint
from tests.mlx.engine.batches import GREEDY, PATIENCE, Fault, Reader, ask, details, local, questions
from tests.tiny_models import build

if TYPE_CHECKING:
    from pathlib import Path

    from llm_tiered.mlx.models import AsyncMlxModel

NAME = "mlx/batch"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a model that talks on."""
    return build("qwen2", tmp_path_factory.mktemp("batch"), layers=1, context=4096)


@pytest.fixture(scope="module")
def model(folder: Path) -> AsyncMlxModel:
    """Give it as llm's model."""
    return local(folder, NAME)


@pytest.fixture(scope="module")
def terse(tmp_path_factory: pytest.TempPathFactory) -> AsyncMlxModel:
    """Give a model that ends its turn by itself."""
    folder = build("phi3", tmp_path_factory.mktemp("terse"), layers=1, eos_bias=32.0)
    return local(folder, "mlx/batch-terse")


async def test_together_as_one_by_one(model: AsyncMlxModel) -> None:
    """32 requests at once get the answers that they get one by one."""
    alone = [await ask(model, question, **GREEDY) for question in questions(32)]
    together = await asyncio.gather(*(ask(model, each, **GREEDY) for each in questions(32)))
    assert together == alone
    assert len(set(alone)) > 28


async def test_newcomer_joins(model: AsyncMlxModel) -> None:
    """A request that comes while others run is answered before they are, and changes nothing."""
    expected = await ask(model, "Hello", **GREEDY)
    alone = [await ask(model, each, **GREEDY) for each in questions(3)]
    running = [Reader(model, each) for each in questions(3)]
    for each in running:
        await asyncio.wait_for(each.begun.wait(), PATIENCE)
    assert await ask(model, "Hello", **GREEDY) == expected
    for each in running:
        assert not each.task.done()
        each.task.cancel()
    await asyncio.gather(*(each.task for each in running), return_exceptions=True)
    for each, text in zip(running, alone, strict=True):
        assert each.text.startswith(text)


async def test_each_keeps_its_own(model: AsyncMlxModel) -> None:
    """Temperature, penalty, stop strings, limit and schema hold for one request of a batch only."""
    schema: dict[str, Any] = {"enum": ["yes", "no"]}
    wanted: list[dict[str, Any]] = [
        GREEDY,
        {"temperature": 0, "max_tokens": 30, "repetition_penalty": 3},
        {"temperature": 0, "max_tokens": 5},
        {"temperature": 0, "max_tokens": 30, "stop": ["e", "a"]},
        {"temperature": 0, "max_tokens": 30, "schema": schema},
        {"temperature": 1, "max_tokens": 30, "top_k": 1},
        {"temperature": 1, "max_tokens": 30, "min_p": 1},
        {"temperature": 0, "max_tokens": 30},
    ]
    alone = [await ask(model, "Hello", **options) for options in wanted]
    hot = [ask(model, "Hello", temperature=2, max_tokens=30) for _ in range(3)]
    together = await asyncio.gather(*(ask(model, "Hello", **options) for options in wanted), *hot)
    assert together[: len(wanted)] == alone
    assert len({*together[len(wanted) :], alone[-1]}) == 4
    assert len({alone[0], alone[1], alone[2], alone[3], alone[4], alone[7]}) == 6
    assert alone[5] == alone[6] == alone[7]


async def test_finish_reasons(model: AsyncMlxModel, terse: AsyncMlxModel) -> None:
    """Whatever ended an answer is said of it: the model, a stop string, or a limit."""
    text = await ask(model, "Hello", **GREEDY)
    asked = [
        (model.prompt("Hello", **GREEDY), "length", 12),
        (model.prompt("Hello", **GREEDY, stop=text[:1]), "stop", 1),
        (model.prompt("Hello", schema={"const": 1}), "stop", 2),
    ]
    answers = [terse.prompt(each, temperature=0, max_tokens=150) for each in questions(8)]
    await asyncio.gather(*(each.text() for each, *_ in asked), *(each.text() for each in answers))
    for response, reason, count in asked:
        assert details(response)["finish_reason"] == reason
        assert (await response.usage()).output == count
    for response in answers:
        assert details(response)["finish_reason"] == "stop"
    counts = {(await response.usage()).output for response in answers}
    assert len(counts) > 3


async def test_cancelling_one(model: AsyncMlxModel) -> None:
    """A request that is cancelled in the middle leaves the others as they were."""
    expected = [await ask(model, each, **GREEDY) for each in questions(6)]
    endless = Reader(model, "Go on and on.")
    await asyncio.wait_for(endless.begun.wait(), PATIENCE)
    others = [asyncio.create_task(ask(model, each, **GREEDY)) for each in questions(6)]
    endless.task.cancel()
    assert await asyncio.gather(*others) == expected
    with pytest.raises(asyncio.CancelledError):
        await endless.task


def failures(outcomes: list[str | BaseException], expected: list[str]) -> list[str]:
    """Give the errors of those that failed, and see that the others got what they should."""
    failed = []
    for outcome, text in zip(outcomes, expected, strict=True):
        if isinstance(outcome, BaseException):
            assert isinstance(outcome, EngineError)
            failed.append(str(outcome))
        else:
            assert outcome == text
    return failed


async def test_insertion_that_fails(model: AsyncMlxModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that can't join fails, and those that are in the batch go on."""
    from mlx_lm.generate import BatchGenerator

    insert, calls = BatchGenerator.insert, iter(range(1000))

    def fail(self: Any, *args: Any, **kwargs: Any) -> Any:
        if next(calls) == 3:
            raise Fault("out of memory")
        return insert(self, *args, **kwargs)

    expected = [await ask(model, each, **GREEDY) for each in questions(4)]
    monkeypatch.setattr(BatchGenerator, "insert", fail)
    asked = [ask(model, each, **GREEDY) for each in questions(4)]
    failed = failures(await asyncio.gather(*asked, return_exceptions=True), expected)
    assert failed == [f"{NAME}: Fault: out of memory"]
    assert [await ask(model, each, **GREEDY) for each in questions(4)] == expected


@pytest.mark.parametrize("step", [0, 3])
async def test_schema_that_fails(
    step: int, model: AsyncMlxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mask that can't be made ends its own answer, with what went wrong, and no other."""
    masked, calls = Constraint._masked, iter(range(100))

    def fail(self: Constraint, logits: Any) -> Any:
        if next(calls) == step:
            raise Fault("out of masks")
        return masked(self, logits)

    expected = [await ask(model, each, **GREEDY) for each in questions(4)]
    monkeypatch.setattr(Constraint, "_masked", fail)
    asked = [ask(model, each, **GREEDY) for each in questions(4)]
    schema: dict[str, Any] = {"type": "string", "minLength": 30, "maxLength": 40}
    bad = ask(model, "Go.", schema=schema, temperature=1)
    *texts, failed = await asyncio.gather(*asked, bad, return_exceptions=True)
    assert texts == expected
    assert isinstance(failed, EngineError)
    assert "Fault: out of masks" in str(failed)
    jsonschema.validate(json.loads(await ask(model, "Go.", schema=schema, temperature=1)), schema)


async def test_token_that_fails(model: AsyncMlxModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that can't be read ends its own answer and no other."""
    push, seen = Decoder.push, Counter[Decoder]()

    def fail(self: Decoder, token: int) -> Any:
        seen[self] += 1
        if seen[self] == 5 and self is next(iter(seen)):
            raise Fault("unreadable")
        return push(self, token)

    expected = [await ask(model, each, **GREEDY) for each in questions(4)]
    monkeypatch.setattr(Decoder, "push", fail)
    asked = [ask(model, each, **GREEDY) for each in questions(4)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert failures(outcomes, expected) == [f"{NAME}: Fault: unreadable"]
    assert sorted(seen.values()) == [5, 12, 12, 12]


async def test_errors_keep_nothing(model: AsyncMlxModel) -> None:
    """Whoever keeps an error keeps nothing of what the worker held when it was raised."""
    with pytest.raises(RequestError) as cut_off:
        await ask(model, "Go.", schema={"type": "string", "minLength": 30}, max_tokens=5)
    with pytest.raises(RequestError) as refused:
        await ask(model, "Go.", schema={"type": "nonsense"})
    for error in (cut_off.value, refused.value):
        assert error.__context__ is None
        frames = {frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)}
        assert not any(name.endswith(("running.py", "worker.py")) for name in frames)


@pytest.mark.parametrize("runner", [Solo, Batch])
async def test_step_that_fails(
    runner: Any, model: AsyncMlxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where nobody expects one, an error ends the requests it hits, and not the worker."""
    step, calls = runner.step, iter(range(1000))

    def fail(self: Any) -> None:
        if next(calls) == 3:
            raise Fault("out of luck")
        step(self)

    expected = await ask(model, "Hello", **GREEDY)
    monkeypatch.setattr(runner, "step", fail)
    count = 1 if runner is Solo else 3
    asked = [ask(model, "Hello", **GREEDY) for _ in range(count)]
    for error in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(error, EngineError)
        assert str(error) == f"{NAME}: Fault: out of luck"
    assert await ask(model, "Hello", **GREEDY) == expected


async def test_generator_that_does_not_close(
    model: AsyncMlxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes wrong when nobody generates any more harms nobody who comes next."""
    from mlx_lm.generate import BatchGenerator

    failing = iter([True])

    def fail(_: Any) -> None:
        if next(failing, False):
            raise Fault("stuck")

    expected = await ask(model, "Hello", **GREEDY)
    monkeypatch.setattr(BatchGenerator, "close", fail)
    for _ in range(2):
        both = await asyncio.gather(*(ask(model, "Hello", **GREEDY) for _ in range(2)))
        assert both == [expected] * 2
    assert next(failing, None) is None


async def test_cache_that_can_not_be_kept(
    model: AsyncMlxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where what was read can't be kept, nobody's answer suffers from it."""

    def fail(*_: Any) -> None:
        raise Fault("nowhere to put it")

    expected = [await ask(model, each, **GREEDY) for each in questions(4)]
    monkeypatch.setattr(PrefixCache, "store", fail)
    asked = [ask(model, each, **GREEDY) for each in questions(4)]
    endless = Reader(model, "Go on and on.")
    assert await asyncio.gather(*asked) == expected
    endless.task.cancel()
    await asyncio.gather(endless.task, return_exceptions=True)
    assert [await ask(model, each, **GREEDY) for each in questions(4)] == expected


@pytest.mark.parametrize("option", [{"top_k": 10**6}, {"top_k": 10**6, "seed": 1}], ids=str)
async def test_more_than_there_is(option: dict[str, Any], model: AsyncMlxModel) -> None:
    """A top_k beyond the vocabulary takes all of it, and harms nobody, then or later."""
    hot: dict[str, Any] = {"temperature": 1, "max_tokens": 12}
    texts = await asyncio.gather(*(ask(model, each, **hot) for each in questions(3)))
    asked = [ask(model, each, **hot) for each in questions(3)]
    texts += await asyncio.gather(*asked, ask(model, "Hello", **hot, **option))
    assert len(set(texts)) == 7
    assert all([await ask(model, each, **hot) for each in questions(3)])


async def test_more_than_there_are_places(model: AsyncMlxModel) -> None:
    """However many requests come at once, each gets its answer, and all places are free again."""
    count = MAX_IN_FLIGHT + 60
    asked = [f"{number}?" for number in range(count)]
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 3}
    texts = await asyncio.gather(*(ask(model, each, **options) for each in asked))
    some = range(0, count, 45)
    assert [texts[n] for n in some] == [await ask(model, asked[n], **options) for n in some]
    assert all(ENGINE._slots.acquire(timeout=PATIENCE) for _ in range(MAX_IN_FLIGHT))
    ENGINE._slots.release(MAX_IN_FLIGHT)


def reference(folder: Path, prompt: str, count: int) -> tuple[int, list[float]]:
    """The prompt's length, and the log-probabilities of what mlx-lm generates at temperature 0."""
    import mlx_lm

    model, tokenizer = mlx_lm.load(str(folder))[:2]
    chat = [{"role": "user", "content": prompt}]
    tokens = tokenizer.apply_chat_template(chat, add_generation_prompt=True)
    generated = mlx_lm.stream_generate(model, tokenizer, tokens, max_tokens=count)
    return len(tokens), [one.logprobs[one.token].item() for one in generated]


async def test_usage_and_statistics(model: AsyncMlxModel, folder: Path) -> None:
    """Counts and log-probabilities of each request are those of mlx-lm on the same tokens."""
    asked = questions(3)
    responses = [model.prompt(each, temperature=0, max_tokens=40) for each in asked]
    await asyncio.gather(*(each.text() for each in responses))
    for question, response in zip(asked, responses, strict=True):
        length, logprobs = device.run_apart(functools.partial(reference, folder, question, 40))
        usage = await response.usage()
        assert (usage.input, usage.output) == (length, 40)
        found = details(response)
        assert found["mean_logprob"] == pytest.approx(sum(logprobs) / 40, abs=1e-3)
        assert found["lowest_logprob"] == pytest.approx(min(logprobs), abs=1e-3)
        assert found["peak_memory"] > 0
