"""If a batch fails, its requests are continued one at a time."""

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
from llm_tiered.mlx.engine.shared_steps import SharedSteps
from tests.chat_templates import QWEN3_TEMPLATE
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
    from collections.abc import Callable

    from llm_tiered.mlx.models import AsyncMlxModel

NAME = "mlx/batch-failures"
STRING: dict[str, Any] = {"type": "string", "minLength": 30, "maxLength": 40}
OPTIONS: list[dict[str, Any]] = [
    {"temperature": 0, "max_tokens": 40},
    {"temperature": 0, "max_tokens": 40, "repetition_penalty": 1.5},
    {"temperature": 0, "max_tokens": 60, "schema": STRING},
    {"temperature": 0, "max_tokens": 60, "schema": STRING, "repetition_penalty": 1.5},
    {"temperature": 1, "max_tokens": 40, "top_k": 1},
    {"temperature": 0, "max_tokens": 40, "stop": "e"},
]
GUIDED: dict[str, Any] = {"schema": STRING, "temperature": 0, "thinking": True}
# The model reasons about these for 18, 3, 12 and 2 tokens.
THINKING_QUESTIONS = questions(6)[2:]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> AsyncMlxModel:
    """A model that never ends its turn."""
    folder = build("qwen2", tmp_path_factory.mktemp("failures"), layers=2, context=4096)
    return async_local_model(folder, NAME)


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> AsyncMlxModel:
    """A model that reasons for some tokens before it answers."""
    folder = build("qwen3", tmp_path_factory.mktemp("thinker"), layers=1)
    opening = '"<|im_start|>assistant\\n<think>\\n"'
    template = QWEN3_TEMPLATE.replace('"<|im_start|>assistant\\n"', opening)
    (folder / "chat_template.jinja").write_text(template)
    tokens = json.loads((folder / "tokenizer.json").read_text("utf-8"))["added_tokens"]
    [end] = [token["id"] for token in tokens if token["content"] == "</think>"]
    weights: Any = mx.load(str(folder / "model.safetensors"))
    weights["lm_head.weight"][end, 0] = 25.0
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    return async_local_model(folder, "mlx/batch-thinker")


class FailingSteps:
    """Makes mlx-lm's steps fail, and counts the failures."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.failures = 0
        self.has_failed = threading.Event()
        self._patch = patch

    def fail_once(self, at: int, count: int, *, late: bool = False) -> None:
        """Make one step fail: number `at`, from 0, of those with all `count` requests.

        With `late`, it fails after MLX has computed it.
        """
        steps, complete = itertools.count(), False

        def fails(batch: Any) -> bool:
            nonlocal complete
            complete = complete or len(batch.uids) == count
            return complete and next(steps) == at

        self._patch_step(fails, late=late)

    def fail_with(self, token: int, *, after: int) -> None:
        """Make all steps fail that have this token in a prompt, apart from the first ones."""
        steps = itertools.count()

        def fails(batch: Any) -> bool:
            return any(token in tokens for tokens in batch.tokens) and next(steps) >= after

        self._patch_step(fails)

    def _patch_step(self, fails: Callable[[Any], bool], *, late: bool = False) -> None:
        step = SharedSteps.step

        def patched(steps: SharedSteps) -> Any:
            failing = fails(steps.batch)
            result = None if failing and not late else step(steps)
            if failing:
                self.failures += 1
                self.has_failed.set()
                raise Fault("out of memory")
            return result

        self._patch.setattr(SharedSteps, "step", patched)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> FailingSteps:
    """A batch's steps, to make them fail."""
    return FailingSteps(monkeypatch)


async def measured(model: AsyncMlxModel, *, together: bool) -> list[dict[str, Any]]:
    """Return text, output tokens and details of the answers to OPTIONS."""
    responses = [model.prompt("Hello", **options) for options in OPTIONS]
    if together:
        await asyncio.gather(*(response.text() for response in responses))
    return [
        {
            "text": await response.text(),
            "tokens": (await response.usage()).output,
            "finish_reason": details(response)["finish_reason"],
            "mean_logprob": pytest.approx(details(response)["mean_logprob"], abs=1e-3),
            "lowest_logprob": pytest.approx(details(response)["lowest_logprob"], abs=1e-3),
        }
        for response in responses
    ]


async def test_failed_step(model: AsyncMlxModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a step that failed for the whole batch, each answer continues as if it had not."""
    expected = await measured(model, together=False)
    for at, late in itertools.product((0, 1, 5, 17), (False, True)):
        with monkeypatch.context() as patch:
            steps = FailingSteps(patch)
            steps.fail_once(at, len(OPTIONS), late=late)
            start_together(patch, len(OPTIONS))
            assert await measured(model, together=True) == expected
            assert steps.failures == 1


async def test_failed_step_of_a_thinker(
    thinker: AsyncMlxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before and after the end of the reasoning, the schema continues where it was."""
    expected = [await ask(thinker, question, **GUIDED) for question in THINKING_QUESTIONS]
    for text in expected:
        jsonschema.validate(json.loads(text), STRING)
    for at, late in itertools.product((2, 3, 4, 14), (False, True)):
        with monkeypatch.context() as patch:
            steps = FailingSteps(patch)
            steps.fail_once(at, 4, late=late)
            start_together(patch, 4)
            calls = [ask(thinker, question, **GUIDED) for question in THINKING_QUESTIONS]
            assert await asyncio.gather(*calls) == expected
            assert steps.failures == 1


async def test_failed_prefill(model: AsyncMlxModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts that can't be processed together are processed one by one."""
    from mlx_lm.generate import PromptProcessingBatch

    process, failures = PromptProcessingBatch.prompt, []

    def fail(batch: Any, tokens: Any) -> None:
        if len(tokens) > 1:
            failures.append(len(tokens))
            raise Fault("out of memory")
        process(batch, tokens)

    prompts = [f"Please read this: {each}" for each in questions(4)]
    start_together(monkeypatch, 4)
    monkeypatch.setattr(PromptProcessingBatch, "prompt", fail)
    texts = await asyncio.gather(*(ask(model, each, **GREEDY) for each in prompts))
    assert failures == [4]
    assert texts == [await ask(model, each, **GREEDY) for each in prompts]


@pytest.mark.parametrize("count", [2, 4])
async def test_failed_removal(
    count: int, model: AsyncMlxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If removing a complete answer fails, it stays complete, and the others continue."""
    from mlx_lm.generate import BatchGenerator

    expected = [await ask(model, each, **GREEDY) for each in questions(count)]
    stop = expected[1][6]
    expected[1] = expected[1][: expected[1].index(stop)]
    start_together(monkeypatch, count)
    FailingCalls(monkeypatch, BatchGenerator, "remove")
    options: list[dict[str, Any]] = [{}, {"stop": stop}, {}, {}]
    prompts = zip(questions(count), options, strict=False)
    calls = [ask(model, question, **GREEDY, **each) for question, each in prompts]
    assert await asyncio.gather(*calls) == expected


async def test_request_that_breaks_its_batch(
    model: AsyncMlxModel,
    steps: FailingSteps,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A request that makes every batch fail fails alone, with the reason; there is one warning."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(str(model.spec.path))
    # The last byte of this character is in no other prompt or answer.
    marker = tokenizer.encode("🧿")[-1]
    expected = [await ask(model, each, **GREEDY) for each in questions(4)]
    complete = await ask(model, "🧿 Hello", **GREEDY)
    steps.fail_with(marker, after=4)
    start_together(monkeypatch, 5)
    with caplog.at_level(logging.WARNING, "llm_tiered"):
        culprit = Reader(model, "🧿 Hello")
        calls = [ask(model, each, **GREEDY) for each in questions(4)]
        assert await asyncio.gather(*calls) == expected
        with pytest.raises(EngineError, match=f"^{NAME}: Fault: out of memory$"):
            await asyncio.wait_for(culprit.task, PATIENCE)
    assert culprit.text
    assert complete.startswith(culprit.text)
    assert steps.failures == 2
    assert [record.getMessage() for record in caplog.records] == [
        f"{NAME}: a batch of 5 requests failed, continuing one at a time (Fault: out of memory)"
    ]


async def test_one_at_a_time(
    model: AsyncMlxModel, steps: FailingSteps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While requests continue one at a time, new ones are served, and any can be cancelled."""
    expected = await ask(model, "Hello", **GREEDY)
    start_together(monkeypatch, 3)
    steps.fail_once(3, 3)
    readers = [Reader(model, each) for each in questions(3)]
    assert await asyncio.to_thread(steps.has_failed.wait, PATIENCE)
    assert await ask(model, "Hello", **GREEDY) == expected
    while readers:
        for reader in readers:
            reader.has_begun.clear()
        running = await first_to_continue(readers)
        readers.remove(running)
        # One that waits, and the one that is running.
        for cancelled in [*readers[:1], running]:
            cancelled.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled.task
        readers = readers[1:]
    assert await ask(model, "Hello", **GREEDY) == expected
    check_all_slots_are_free()


async def first_to_continue(readers: list[Reader]) -> Reader:
    """Wait until one of the readers receives more text, and return it."""
    waiting = {asyncio.ensure_future(reader.has_begun.wait()): reader for reader in readers}
    done, rest = await asyncio.wait(waiting, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    [first] = done
    return waiting[first]
