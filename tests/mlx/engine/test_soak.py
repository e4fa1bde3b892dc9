"""A soak test: many kinds of requests at the same time, with failures, hang and leak nothing.

LLM_TIERED_SOAK=120 runs it for that number of seconds; `pytest -s` shows the counts.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import itertools
import json
import os
import random
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import jsonschema
import mlx.core as mx
import pytest

from llm_tiered.errors import PromptTooLong, RequestError, TieredError
from llm_tiered.mlx.catalog import ModelSpec
from llm_tiered.mlx.engine.batch import Batch
from llm_tiered.mlx.engine.engine import ENGINE
from llm_tiered.mlx.engine.kv import PrefixCache
from llm_tiered.mlx.engine.requests import Limits
from llm_tiered.mlx.engine.sequence import RunningSequence
from llm_tiered.mlx.engine.shared_steps import SharedSteps
from llm_tiered.mlx.engine.solo import Solo
from llm_tiered.mlx.models import AsyncMlxModel, MlxModel
from llm_tiered.mlx.tokens.decoding import Decoder
from llm_tiered.mlx.tokens.structured import Constraint
from llm_tiered.mlx.weights.inspect import inspect_folder
from tests.mlx.engine.batches import check_all_slots_are_free
from tests.mlx.engine.faults import Fault
from tests.tiny_models import Family, build

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    import llm

FAMILIES: tuple[Family, ...] = ("phi3", "qwen2", "qwen3")
QUESTIONS = ["Hello", "And then?", "What is 3 times 4?" * 3, "Why? " * 30]
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 12}
HOT: dict[str, Any] = {"temperature": 1, "max_tokens": 12}
SCHEMA: dict[str, Any] = {
    "type": "array",
    "items": {"enum": ["do", "re", "mi"]},
    "minItems": 1,
    "maxItems": 3,
}
THREADS, OPERATIONS, LOOPS, TASKS = 3, 8, 2, 8
WATCHDOG = 300  # seconds; everything usually takes a few
SECONDS = float(os.environ.get("LLM_TIERED_SOAK", "0"))
TOLERANCE = 1_000_000  # bytes of memory that may remain in use for other reasons


class Saboteur:
    """Makes random calls fail."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.faults = Counter[str]()
        self._patch = patch
        self._random = random.Random(5)

    def disturb(self, target: Any, name: str, share: float) -> None:
        """Make this share of the calls raise an error."""
        original = getattr(target, name)
        label = f"{getattr(target, '__name__', target)}.{name}"

        def disturbed(*args: Any, **kwargs: Any) -> Any:
            if self._random.random() < share:
                self.faults[label] += 1
                raise Fault(f"injected into {label}")
            return original(*args, **kwargs)

        self._patch.setattr(target, name, disturbed)


class Traffic:
    """What users do with models. Each operation fails if its outcome is wrong."""

    def __init__(self, specs: list[ModelSpec], limits: Limits) -> None:
        known = {spec.model_id: spec for spec in specs}
        self.sync = [MlxModel(spec, lambda: limits, known.get) for spec in specs]
        self.asynchronous = [AsyncMlxModel(spec, lambda: limits, known.get) for spec in specs]
        self.expected = {
            (model.model_id, question): model.prompt(question, **GREEDY).text()
            for model in self.sync
            for question in QUESTIONS
        }
        self.unfinished: list[Iterator[str]] = []

    def check(self, model: Any, question: str, text: str) -> None:
        """Assert that an answer at temperature 0 is the one given before the storm."""
        assert text == self.expected[model.model_id, question]

    def greedy(self, chance: random.Random) -> None:
        """Ask a question whose answer is known."""
        model, question = chance.choice(self.sync), chance.choice(QUESTIONS)
        self.check(model, question, model.prompt(question, **GREEDY).text())

    def draft(self, chance: random.Random) -> None:
        """Use a model as its own draft model."""
        model, question = chance.choice(self.sync), chance.choice(QUESTIONS)
        response = model.prompt(question, draft_model=model.model_id, **GREEDY)
        self.check(model, question, response.text())

    def hot(self, chance: random.Random) -> None:
        """Ask at temperature 1, sometimes with a KV cache of 4 bits."""
        option: dict[str, Any] = chance.choice([{}, {"kv_bits": 4}, {"top_k": 10**6}])
        assert chance.choice(self.sync).prompt(chance.choice(QUESTIONS), **HOT, **option).text()

    def seeded(self, chance: random.Random) -> None:
        """Ask twice with a seed."""
        model, seed = chance.choice(self.sync), chance.randrange(3)
        first, again = (model.prompt("Hello", seed=seed, **HOT).text() for _ in range(2))
        assert first == again

    def conversation(self, chance: random.Random) -> None:
        """Have a conversation."""
        conversation = chance.choice(self.sync).conversation()
        for _ in range(3):
            assert conversation.prompt(chance.choice(QUESTIONS), **HOT).text()

    def guided(self, chance: random.Random) -> None:
        """Ask for JSON."""
        text = chance.choice(self.sync).prompt("Sing.", schema=SCHEMA, temperature=1).text()
        jsonschema.validate(json.loads(text), SCHEMA)

    def abandoned(self, chance: random.Random) -> None:
        """Begin to read a long answer, then drop it, or keep it unfinished."""
        pieces = iter(chance.choice(self.sync).prompt("Hello", max_tokens=300))
        next(pieces)
        if chance.random() < 0.3:
            self.unfinished.append(pieces)

    def wrong(self, chance: random.Random) -> None:
        """Make a request that has to fail."""
        model = chance.choice(self.sync)
        cases: list[tuple[llm.Response, type[TieredError]]] = [
            (model.prompt("Why? " * 2000), PromptTooLong),
            (model.prompt("Hello", schema={"type": "nonsense"}), RequestError),
            (model.prompt("Hello", draft_model="nobody"), RequestError),
            (model.prompt("Hello", schema=SCHEMA, max_tokens=1), RequestError),
        ]
        response, expected = chance.choice(cases)
        with pytest.raises(TieredError) as refused:
            response.text()
        if not isinstance(refused.value, expected):
            raise refused.value

    async def greedy_task(self, chance: random.Random) -> None:
        """Ask a question whose answer is known."""
        model, question = chance.choice(self.asynchronous), chance.choice(QUESTIONS)
        self.check(model, question, await model.prompt(question, **GREEDY).text())

    async def guided_task(self, chance: random.Random) -> None:
        """Ask for JSON."""
        model = chance.choice(self.asynchronous)
        text = await model.prompt("Sing.", schema=SCHEMA, temperature=1).text()
        jsonschema.validate(json.loads(text), SCHEMA)

    async def seeded_task(self, chance: random.Random) -> None:
        """Ask with a seed."""
        model = chance.choice(self.asynchronous)
        assert await model.prompt("Hello", seed=chance.randrange(3), **HOT).text()

    async def cancelled_task(self, chance: random.Random) -> None:
        """Cancel a long answer, before or after it begins."""
        pieces, model = chance.randrange(4), chance.choice(self.asynchronous)
        has_begun = asyncio.Event()

        async def read() -> None:
            seen = 0
            async for _ in model.prompt("Go on and on.", max_tokens=300):
                seen += 1
                if seen >= pieces:
                    has_begun.set()

        task = asyncio.ensure_future(read())
        waiting = asyncio.ensure_future(has_begun.wait())
        if pieces:
            await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return


class Outcomes:
    """How the operations ended."""

    def __init__(self) -> None:
        self.ended = Counter[str]()
        self.faults = Counter[str]()
        self.errors: list[str] = []
        self._lock = threading.Lock()

    def record(self, name: str, error: BaseException | None) -> None:
        """Count an operation that ended well or by an injected fault; record any other error."""
        with self._lock:
            if error is None:
                self.ended[name] += 1
            elif isinstance(error, TieredError) and "injected" in str(error):
                self.faults[name] += 1
            else:
                self.errors.append(f"{name}: {type(error).__name__}: {error}")

    def run(self, operation: Callable[[random.Random], None], chance: random.Random) -> None:
        """Run one operation."""
        try:
            operation(chance)
        except BaseException as error:
            self.record(operation.__name__, error)
        else:
            self.record(operation.__name__, None)

    async def run_task(
        self, operation: Callable[[random.Random], Awaitable[None]], chance: random.Random
    ) -> None:
        """Run one operation as a task."""
        try:
            await operation(chance)
        except BaseException as error:
            self.record(operation.__name__, error)
        else:
            self.record(operation.__name__, None)


def storm(traffic: Traffic, outcomes: Outcomes, seed: int) -> list[threading.Thread]:
    """Start threads and event loops, each with the operations in an order of its own."""
    operations = [
        *(traffic.greedy, traffic.draft, traffic.hot, traffic.seeded, traffic.conversation),
        *(traffic.guided, traffic.abandoned, traffic.wrong),
    ]
    tasks = [
        *(traffic.greedy_task, traffic.guided_task, traffic.seeded_task),
        traffic.cancelled_task,
    ]

    def work_through(number: int) -> None:
        chance = random.Random(seed + number)
        planned = operations * (OPERATIONS // len(operations))
        chance.shuffle(planned)
        for operation in planned:
            outcomes.run(operation, chance)

    async def gather(number: int) -> None:
        chance = random.Random(seed + 100 + number)
        planned = tasks * (TASKS // len(tasks))
        chance.shuffle(planned)
        await asyncio.gather(
            *(outcomes.run_task(task, random.Random(chance.random())) for task in planned)
        )

    async def leave(number: int) -> None:
        # The loop ends while these answers are being generated.
        unfinished = [
            asyncio.ensure_future(model.prompt(f"{number}", max_tokens=300).text())
            for model in traffic.asynchronous
        ]
        await outcomes.run_task(traffic.greedy_task, random.Random(seed + number))
        assert len(unfinished) == len(FAMILIES)

    threads = [threading.Thread(target=work_through, args=(n,)) for n in range(THREADS)]
    for loop in (gather, leave):
        threads += [
            threading.Thread(target=lambda n, loop=loop: asyncio.run(loop(n)), args=(n,))
            for n in range(LOOPS)
        ]
    for thread in threads:
        thread.daemon = True
        thread.start()
    return threads


def watch(threads: list[threading.Thread]) -> None:
    """Wait for the threads; if one hangs, print the traceback of each."""
    deadline = time.monotonic() + WATCHDOG
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        faulthandler.dump_traceback()
        pytest.fail("a request got neither an answer nor an error")


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> list[ModelSpec]:
    """Three models."""
    root = tmp_path_factory.mktemp("soak")
    return [
        ModelSpec(
            model_id=f"mlx/soak-{family}",
            path=build(family, root / family, layers=1, hidden=128, context=1024),
        )
        for family in FAMILIES
    ]


def test_soak(specs: list[ModelSpec], monkeypatch: pytest.MonkeyPatch) -> None:
    """Despite failures, cancellations and evictions, every request gets its answer or its error.

    Afterwards, all threads have ended, all slots and all memory are free, and no request is left.
    """
    from mlx_lm.generate import BatchGenerator

    ENGINE.close()
    gc.collect()
    threads, memory = set(threading.enumerate()), mx.get_active_memory()
    sizes = [inspect_folder(spec.path).memory for spec in specs if spec.path]
    limits = Limits(memory=sum(sizes) - min(sizes) // 2)
    traffic, outcomes = Traffic(specs, limits), Outcomes()
    loads: list[str] = []
    with monkeypatch.context() as patch:
        count_loads(patch, loads)
        saboteur = Saboteur(patch)
        saboteur.disturb(Batch, "step", 0.005)
        saboteur.disturb(Solo, "step", 0.003)
        saboteur.disturb(Decoder, "push", 0.001)
        saboteur.disturb(Constraint, "_masked", 0.01)
        saboteur.disturb(PrefixCache, "store", 0.03)
        saboteur.disturb(SharedSteps, "step", 0.02)
        saboteur.disturb(BatchGenerator, "insert", 0.03)
        end = time.monotonic() + SECONDS
        for seed in itertools.count(1):
            watch(storm(traffic, outcomes, seed=seed))
            if time.monotonic() >= end:
                break
    print(f"{seed} storms: {outcomes.ended}, {outcomes.faults}, {len(loads)} loads")  # noqa: T201  # shown by pytest -s
    assert outcomes.errors == []
    assert sum(outcomes.ended.values()) > sum(outcomes.faults.values()) > 0
    assert len(saboteur.faults) > 1
    assert len(loads) > len(FAMILIES)
    for model in traffic.sync:
        for question in QUESTIONS:
            traffic.check(model, question, model.prompt(question, **GREEDY).text())
    traffic.unfinished.clear()
    check_nothing_is_left(threads, memory)


def count_loads(patch: pytest.MonkeyPatch, loads: list[str]) -> None:
    """Record the name of every model that is loaded."""
    from llm_tiered.mlx.engine import loading, residency

    load = loading.load_model

    def counted(request: Any, *args: Any) -> Any:
        loads.append(request.name)
        return load(request, *args)

    patch.setattr(residency, "load_model", counted)


def check_nothing_is_left(threads: set[threading.Thread], memory: int) -> None:
    """Assert that closing the engine restores the state before the test."""
    gc.collect()
    check_all_slots_are_free()
    ENGINE.close()
    gc.collect()
    assert set(threading.enumerate()) <= threads
    kinds = (RunningSequence, Batch, Solo)
    assert not any(isinstance(each, kinds) for each in gc.get_objects())
    assert mx.get_active_memory() < memory + TOLERANCE
