"""A request by itself goes on in a batch as soon as another one wants the same model, and back."""

from __future__ import annotations

import queue
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.errors import EngineError
from llm_tiered.mlx.engine import loading, solo
from llm_tiered.mlx.engine.batch import Batch
from llm_tiered.mlx.engine.engine import ENGINE
from llm_tiered.mlx.engine.requests import (
    CancelToken,
    Done,
    Event,
    Failed,
    GenerationRequest,
    Prefill,
)
from llm_tiered.mlx.engine.sequence import RunningSequence
from llm_tiered.mlx.engine.solo import Solo
from llm_tiered.mlx.tokens.decoding import Reasoning, Text
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llm_tiered.mlx.tokens.messages import ChatMessage

PATIENCE = 30  # seconds, for what takes far less
LONG = " a" * 200  # more than is read at once
STRING: dict[str, Any] = {"type": "string", "minLength": 30, "maxLength": 40}
ALL_SORTS: list[dict[str, Any]] = [
    {},
    {"sampling": {"temperature": 0.0, "repetition_penalty": 1.5}},
    {"schema": STRING, "max_tokens": 60},
    {"stop": ("zebra",)},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a model that talks on."""
    return build("qwen2", tmp_path_factory.mktemp("handover"), context=8192)


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solo, "PREFILL_STEP", 64)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """Collect the batches that are begun."""
    return collect(monkeypatch, Batch)


def collect(monkeypatch: pytest.MonkeyPatch, kind: type[Any]) -> list[Any]:
    """Give the objects of that class that are made from now on."""
    made: list[Any] = []
    init = kind.__init__

    def noted(self: Any, *args: Any) -> None:
        made.append(self)
        init(self, *args)

    monkeypatch.setattr(kind, "__init__", noted)
    return made


class Asked:
    """A request, and what came of it so far; `on_event` is called on the worker's thread."""

    def __init__(self, folder: Path, prompt: str, **settings: Any) -> None:
        chat: tuple[ChatMessage, ...] = ({"role": "user", "content": prompt},)
        given: dict[str, Any] = {"max_tokens": 24, "sampling": {"temperature": 0.0}} | settings
        self.request = GenerationRequest("mlx/handover", folder, 10**9, chat, **given)
        self.cancel_token = CancelToken()
        self.on_event: Callable[[Event], None] = lambda event: None
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def submit(self) -> None:
        """Send it off."""
        ENGINE.submit(self.request, self._emit, self.cancel_token)

    def answer(self) -> tuple[str, Done]:
        """Wait for its text, and for what is said of that."""
        text = ""
        while not isinstance(event := self._events.get(timeout=PATIENCE), (Done, Failed)):
            text += event.text if isinstance(event, (Text, Reasoning)) else ""
        if isinstance(event, Failed):
            raise event.error
        return text, event

    def _emit(self, event: Event) -> None:
        self._events.put(event)
        self.on_event(event)


def after(count: int, kind: type[Event], then: Callable[[], None]) -> Callable[[Event], None]:
    """Do something at the so-manieth event of a kind."""
    left = count

    def on_event(event: Event) -> None:
        nonlocal left
        if isinstance(event, kind):
            left -= 1
            if left == 0:
                then()

    return on_event


def alone(folder: Path, prompt: str, **settings: Any) -> str:
    """Give what is answered where nobody else asks, and nothing was read before."""
    ENGINE.close()
    asked = Asked(folder, prompt, **settings)
    asked.submit()
    text = asked.answer()[0]
    ENGINE.close()
    return text


def test_one_request_makes_no_batch(folder: Path, batches: list[Batch]) -> None:
    """A request that nobody disturbs is served by itself."""
    asked = Asked(folder, "Hello")
    asked.submit()
    assert asked.answer()[0]
    assert batches == []


@pytest.mark.parametrize("settings", ALL_SORTS)
@pytest.mark.parametrize(("prompt", "at"), [("Hello", Text), (LONG, Prefill)])
def test_newcomer(
    folder: Path, batches: list[Batch], settings: dict[str, Any], prompt: str, at: type[Event]
) -> None:
    """One that comes while another is read or answered joins it, and both answers are the same."""
    expected = [alone(folder, text, **settings) for text in (prompt, "And you?")]
    first, second = Asked(folder, prompt, **settings), Asked(folder, "And you?", **settings)
    first.on_event = after(1, at, second.submit)
    first.submit()
    answers = [first.answer(), second.answer()]
    assert [text for text, _ in answers] == expected
    assert len(batches) == 1
    # What it has read itself came from no cache.
    assert answers[0][1].cached_tokens == 0


@pytest.mark.parametrize("settings", ALL_SORTS)
def test_the_last_one_goes_on_by_itself(
    folder: Path, batches: list[Batch], monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    """When all others are done, the batch ends, and what is left of the last answer is the same."""
    expected = alone(folder, "And you?", **settings)
    solos: list[Solo] = collect(monkeypatch, Solo)
    first = Asked(folder, "Hello", max_tokens=6)
    second = Asked(folder, "And you?", **settings)
    first.on_event = after(2, Text, second.submit)
    first.submit()
    first.answer()
    assert second.answer()[0] == expected
    assert len(batches) == 1
    assert [solo._sequence.request for solo in solos] == [first.request, second.request]


@pytest.mark.parametrize("share", [loading.PREFIX_CACHE_SHARE, 0])
def test_handover_reads_nothing_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """Each goes on with what was read before, also where nothing is kept: one token is left."""
    monkeypatch.setattr(loading, "PREFIX_CACHE_SHARE", share)
    unread: list[tuple[str, int]] = []
    start = RunningSequence.prepare

    def noted(self: RunningSequence, *kind: str) -> tuple[Any, list[int]]:
        known, left = start(self, *kind)
        unread.append((self.request.chat[0]["content"], len(left)))
        return known, left

    ENGINE.close()
    monkeypatch.setattr(RunningSequence, "prepare", noted)
    first, second = Asked(folder, LONG, max_tokens=12), Asked(folder, "And you?", max_tokens=60)
    first.on_event = after(3, Text, second.submit)
    first.submit()
    first.answer()
    second.answer()
    begun = [prompt for prompt, _ in unread]
    assert begun == [LONG, LONG, "And you?", "And you?"]
    assert [unread[1], unread[3]] == [(LONG, 1), ("And you?", 1)]


def test_cancelled_after_the_handover(folder: Path) -> None:
    """One that is cancelled in the batch leaves the other its answer."""
    expected = alone(folder, "And you?")
    first = Asked(folder, "Hello", max_tokens=4000)
    second = Asked(folder, "And you?")
    first.on_event = after(3, Text, second.submit)
    second.on_event = after(2, Text, first.cancel_token.cancel)
    first.submit()
    assert second.answer()[0] == expected


def test_newcomer_after_a_cancelled_one(folder: Path, batches: list[Batch]) -> None:
    """Whoever comes joins no request that nobody waits for any more."""
    expected = alone(folder, "And you?")
    first, second = Asked(folder, "Hello", max_tokens=4000), Asked(folder, "And you?")

    def leave() -> None:
        first.cancel_token.cancel()
        second.submit()

    first.on_event = after(3, Text, leave)
    first.submit()
    assert second.answer()[0] == expected
    assert batches == []


def test_failure_of_the_one_that_is_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that fails when the other has just left the batch has failed, and is not tried again."""
    from mlx_lm.generate import GenerationBatch

    expected = alone(folder, "And you?")
    step, failures = GenerationBatch._step, 0
    first, second = Asked(folder, "Hello", max_tokens=4000), Asked(folder, "And you?")
    first.on_event = after(3, Text, second.submit)
    second.on_event = after(2, Text, first.cancel_token.cancel)

    def fail(batch: Any) -> Any:
        nonlocal failures
        if first.cancel_token.cancelled:
            failures += 1
            raise RuntimeError("out of memory")
        return step(batch)

    monkeypatch.setattr(GenerationBatch, "_step", fail)
    first.submit()
    with pytest.raises(EngineError, match=r"^mlx/handover: RuntimeError: out of memory$"):
        second.answer()
    assert failures == 1
    monkeypatch.undo()
    assert alone(folder, "And you?") == expected


def test_request_with_a_seed_stays_alone(folder: Path, batches: list[Batch]) -> None:
    """Whoever comes joins no request that has a random state of its own."""
    settings: dict[str, Any] = {"seed": 7, "sampling": {"temperature": 1.0}}
    expected = alone(folder, "Hello", **settings)
    first, second = Asked(folder, "Hello", **settings), Asked(folder, "And you?")
    first.on_event = after(3, Text, second.submit)
    first.submit()
    assert first.answer()[0] == expected
    assert second.answer()[0]
    assert batches == []


def test_handover_that_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the first can't go on in a batch, it fails, and the newcomer is answered."""
    expected = alone(folder, "And you?")
    add = Batch.add

    def picky(self: Batch, running: Any) -> None:
        if running.request is first.request:
            raise RuntimeError("no room")
        add(self, running)

    monkeypatch.setattr(Batch, "add", picky)
    first, second = Asked(folder, "Hello"), Asked(folder, "And you?")
    first.on_event = after(3, Text, partial(second.submit))
    first.submit()
    with pytest.raises(Exception, match="no room"):
        first.answer()
    assert second.answer()[0] == expected
