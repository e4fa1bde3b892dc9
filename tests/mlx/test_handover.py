"""A request by itself goes on in a batch as soon as another one wants the same model."""

from __future__ import annotations

import queue
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.mlx import solo
from llm_tiered.mlx.batch import Batch
from llm_tiered.mlx.engine import ENGINE
from llm_tiered.mlx.requests import (
    Done,
    Event,
    Failed,
    GenerationRequest,
    Prefill,
    Reasoning,
    Text,
    Ticket,
)
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llm_tiered.mlx.messages import ChatMessage

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
    monkeypatch.setattr(solo, "STEP", 64)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """Collect the batches that are begun."""
    begun: list[Batch] = []
    init = Batch.__init__

    def noted(self: Batch, *args: Any) -> None:
        begun.append(self)
        init(self, *args)

    monkeypatch.setattr(Batch, "__init__", noted)
    return begun


class Asked:
    """A request, and what came of it so far; `on_event` is called on the worker's thread."""

    def __init__(self, folder: Path, prompt: str, **settings: Any) -> None:
        chat: tuple[ChatMessage, ...] = ({"role": "user", "content": prompt},)
        given: dict[str, Any] = {"max_tokens": 24, "sampling": {"temperature": 0.0}} | settings
        self.request = GenerationRequest("mlx/handover", folder, 10**9, chat, **given)
        self.ticket = Ticket()
        self.on_event: Callable[[Event], None] = lambda event: None
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def submit(self) -> None:
        """Send it off."""
        ENGINE.submit(self.request, self._emit, self.ticket)

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


def test_handover_reads_nothing_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch goes on with what was read before it: a single token is left."""
    unread: list[int] = []
    start = Batch.add

    def noted(self: Batch, running: Any) -> None:
        fetch = running.start

        def fetched() -> Any:
            known, left = fetch()
            unread.append(len(left))
            return known, left

        running.start = fetched
        start(self, running)

    ENGINE.close()
    monkeypatch.setattr(Batch, "add", noted)
    first, second = Asked(folder, LONG), Asked(folder, "And you?")
    first.on_event = after(3, Text, second.submit)
    first.submit()
    first.answer()
    second.answer()
    assert unread[0] == 1


def test_cancelled_after_the_handover(folder: Path) -> None:
    """One that is cancelled in the batch leaves the other its answer."""
    expected = alone(folder, "And you?")
    first = Asked(folder, "Hello", max_tokens=4000)
    second = Asked(folder, "And you?")
    first.on_event = after(3, Text, second.submit)
    second.on_event = after(2, Text, first.ticket.cancel)
    first.submit()
    assert second.answer()[0] == expected


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
