"""A batch that fails is taken apart: each of its requests goes on by itself."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import threading
from typing import TYPE_CHECKING, Any

import jsonschema
import mlx.core as mx
import pytest

from llm_tiered.errors import EngineError
from llm_tiered.mlx.engine.batch import Batch
from llm_tiered.mlx.engine.engine import ENGINE, MAX_IN_FLIGHT
from tests.mlx.engine.batches import GREEDY, PATIENCE, Fault, Reader, ask, details, local, questions
from tests.tiny_models import QWEN3_TEMPLATE, build

if TYPE_CHECKING:
    from llm_tiered.mlx.models import AsyncMlxModel

NAME = "mlx/batch-apart"
STRING: dict[str, Any] = {"type": "string", "minLength": 30, "maxLength": 40}
ALL_SORTS: list[dict[str, Any]] = [
    {"temperature": 0, "max_tokens": 40},
    {"temperature": 0, "max_tokens": 40, "repetition_penalty": 1.5},
    {"temperature": 0, "max_tokens": 60, "schema": STRING},
    {"temperature": 0, "max_tokens": 60, "schema": STRING, "repetition_penalty": 1.5},
    {"temperature": 1, "max_tokens": 40, "top_k": 1},
    {"temperature": 0, "max_tokens": 40, "stop": "e"},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> AsyncMlxModel:
    """Give a model that talks on."""
    folder = build("qwen2", tmp_path_factory.mktemp("apart"), layers=2, context=4096)
    return local(folder, NAME)


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> AsyncMlxModel:
    """Give a model that thinks for some tokens before it answers."""
    folder = build("qwen3", tmp_path_factory.mktemp("thinker"), layers=1)
    opened = '"<|im_start|>assistant\\n<think>\\n"'
    template = QWEN3_TEMPLATE.replace('"<|im_start|>assistant\\n"', opened)
    (folder / "chat_template.jinja").write_text(template)
    added = json.loads((folder / "tokenizer.json").read_text("utf-8"))["added_tokens"]
    [end] = [token["id"] for token in added if token["content"] == "</think>"]
    weights: Any = mx.load(str(folder / "model.safetensors"))
    weights["lm_head.weight"][end, 0] = 25.0
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    return local(folder, "mlx/batch-thinker")


class Company:
    """So many requests that are served together: nothing is generated until all are there."""

    def __init__(self, patch: pytest.MonkeyPatch, count: int) -> None:
        self._patch = patch
        self._count = count
        self.failures = 0
        self.failed = threading.Event()
        advance = Batch._generate
        complete = False

        def wait(batch: Batch) -> None:
            nonlocal complete
            complete = complete or len(batch._running) == count
            if complete:
                advance(batch)

        patch.setattr(Batch, "_generate", wait)

    def fail(self, at: int, *, late: bool = False) -> None:
        """Let that step of all together fail, before or after MLX has computed it."""
        from mlx_lm.generate import GenerationBatch

        step, steps, together = GenerationBatch._step, itertools.count(), False

        def fail(batch: Any) -> Any:
            nonlocal together
            together = together or len(batch.uids) == self._count
            failing = together and next(steps) == at
            result = None if failing and not late else step(batch)
            if failing:
                self._raise()
            return result

        self._patch.setattr(GenerationBatch, "_step", fail)

    def _raise(self) -> None:
        self.failures += 1
        self.failed.set()
        raise Fault("out of memory")

    def fail_with(self, token: int, *, after: int) -> None:
        """Let all steps fail that have this token in a prompt, apart from the first ones."""
        from mlx_lm.generate import GenerationBatch

        step, steps = GenerationBatch._step, itertools.count()

        def fail(batch: Any) -> Any:
            if any(token in tokens for tokens in batch.tokens) and next(steps) >= after:
                self._raise()
            return step(batch)

        self._patch.setattr(GenerationBatch, "_step", fail)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("at", [0, 1, 5, 17])
async def test_step_that_fails_for_all(
    at: int, late: bool, model: AsyncMlxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a step fails for the whole batch, each answer goes on as if nothing had happened."""
    company = Company(monkeypatch, len(ALL_SORTS))
    company.fail(at, late=late)
    shaken = [model.prompt("Hello", **options) for options in ALL_SORTS]
    texts = await asyncio.gather(*(response.text() for response in shaken))
    assert company.failures == 1
    calm = [model.prompt("Hello", **options) for options in ALL_SORTS]
    assert texts == [await response.text() for response in calm]
    for before, after in zip(calm, shaken, strict=True):
        assert (await after.usage()).output == (await before.usage()).output
        for name in ("mean_logprob", "lowest_logprob"):
            assert details(after)[name] == pytest.approx(details(before)[name], abs=1e-3)
        assert details(after)["finish_reason"] == details(before)["finish_reason"]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("at", [2, 3, 4, 14])
async def test_thinker_whose_step_fails(
    at: int, late: bool, thinker: AsyncMlxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before and after the end of the thinking, the schema goes on where it was."""
    asked: dict[str, Any] = {"schema": STRING, "temperature": 0, "thinking": True}
    # They are thought about for 18, 3, 12 and 2 tokens.
    asking = questions(6)[2:]
    company = Company(monkeypatch, 4)
    company.fail(at, late=late)
    texts = await asyncio.gather(*(ask(thinker, each, **asked) for each in asking))
    assert company.failures == 1
    assert texts == [await ask(thinker, each, **asked) for each in asking]
    for text in texts:
        jsonschema.validate(json.loads(text), STRING)


async def test_reading_that_fails(model: AsyncMlxModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the prompts can't be read together, they are read one by one."""
    from mlx_lm.generate import PromptProcessingBatch

    read, failed = PromptProcessingBatch.prompt, []

    def fail(batch: Any, tokens: Any) -> None:
        if len(tokens) > 1:
            failed.append(len(tokens))
            raise Fault("out of memory")
        read(batch, tokens)

    asked = [f"Please read this: {each}" for each in questions(4)]
    Company(monkeypatch, 4)
    monkeypatch.setattr(PromptProcessingBatch, "prompt", fail)
    texts = await asyncio.gather(*(ask(model, each, **GREEDY) for each in asked))
    assert failed == [4]
    assert texts == [await ask(model, each, **GREEDY) for each in asked]


@pytest.mark.parametrize("count", [2, 4])
async def test_removal_that_fails(
    count: int, model: AsyncMlxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an answer that is complete can't be taken out, it is, and the others go on."""
    from mlx_lm.generate import BatchGenerator

    def fail(*_: Any, **__: Any) -> None:
        raise Fault("out of memory")

    expected = [await ask(model, each, **GREEDY) for each in questions(count)]
    stop = expected[1][6]
    expected[1] = expected[1][: expected[1].index(stop)]
    Company(monkeypatch, count)
    monkeypatch.setattr(BatchGenerator, "remove", fail)
    options: list[dict[str, Any]] = [{}, {"stop": stop}, {}, {}]
    asked = zip(questions(count), options, strict=False)
    answers = await asyncio.gather(*(ask(model, each, **GREEDY, **said) for each, said in asked))
    assert answers == expected


async def test_request_that_breaks_its_batch(
    model: AsyncMlxModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A request that makes every batch fail that it is in fails alone, with what went wrong."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(str(model.spec.path))
    # A byte that no text of the model ends up with.
    marker = tokenizer.encode("🧿")[-1]
    expected = [await ask(model, each, **GREEDY) for each in questions(4)]
    culprit = await ask(model, "🧿 Hello", **GREEDY)
    company = Company(monkeypatch, 5)
    company.fail_with(marker, after=4)
    with caplog.at_level(logging.WARNING, "llm_tiered"):
        bad = Reader(model, "🧿 Hello")
        asked = [ask(model, each, **GREEDY) for each in questions(4)]
        assert await asyncio.gather(*asked) == expected
        with pytest.raises(EngineError, match=f"^{NAME}: Fault: out of memory$"):
            await asyncio.wait_for(bad.task, PATIENCE)
    assert bad.text
    assert culprit.startswith(bad.text)
    assert company.failures == 2
    assert [record.getMessage() for record in caplog.records] == [
        f"{NAME}: a batch of 5 requests failed, continuing one at a time (Fault: out of memory)"
    ]


async def test_one_by_one(model: AsyncMlxModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """While requests go on one by one, newcomers are served, and those that wait may leave."""
    expected = await ask(model, "Hello", **GREEDY)
    company = Company(monkeypatch, 3)
    company.fail(3)
    readers = [Reader(model, each) for each in questions(3)]
    assert await asyncio.to_thread(company.failed.wait, PATIENCE)
    assert await ask(model, "Hello", **GREEDY) == expected
    while readers:
        for reader in readers:
            reader.begun.clear()
        going = await first_to_go_on(readers)
        readers.remove(going)
        # One that waits, and the one that goes on.
        for leaving in [*readers[:1], going]:
            leaving.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving.task
        readers = readers[1:]
    assert await ask(model, "Hello", **GREEDY) == expected
    assert all(ENGINE._slots.acquire(timeout=PATIENCE) for _ in range(MAX_IN_FLIGHT))
    ENGINE._slots.release(MAX_IN_FLIGHT)


async def first_to_go_on(readers: list[Reader]) -> Reader:
    """Wait until one of them reads more."""
    waiting = {asyncio.ensure_future(reader.begun.wait()): reader for reader in readers}
    done, rest = await asyncio.wait(waiting, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    [first] = done
    return waiting[first]
