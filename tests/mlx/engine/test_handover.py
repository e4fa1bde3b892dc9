"""A sequence passes from Solo to a Batch when another request comes for its model, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from llm_tiered.errors import EngineError
from llm_tiered.mlx.engine import loading, solo
from llm_tiered.mlx.engine.batch import Batch
from llm_tiered.mlx.engine.engine import ENGINE
from llm_tiered.mlx.engine.requests import Event, Prefill
from llm_tiered.mlx.engine.sequence import RunningSequence
from llm_tiered.mlx.engine.shared_steps import SharedSteps
from llm_tiered.mlx.engine.solo import Solo
from llm_tiered.mlx.tokens.decoding import Text
from tests.mlx.engine.client import Call, make_request
from tests.mlx.engine.faults import Fault
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME = "mlx/handover"
LONG = " a" * 200  # more than one prefill step
STRING: dict[str, Any] = {"type": "string", "minLength": 30, "maxLength": 40}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"sampling": {"temperature": 0.0, "repetition_penalty": 1.5}},
    {"schema": STRING, "max_tokens": 60},
    {"stop": ("zebra",)},
]

Alone: TypeAlias = "Callable[..., str]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that never ends its turn."""
    return build("qwen2", tmp_path_factory.mktemp("handover"), context=8192)


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solo, "PREFILL_STEP", 64)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """The batches that have been started."""
    return record_instances(monkeypatch, Batch)


@pytest.fixture(scope="module")
def alone(folder: Path) -> Alone:
    """Return the answer to a request that is alone, with an empty prefix cache."""
    texts: dict[str, str] = {}

    def alone(prompt: str, **fields: Any) -> str:
        key = f"{prompt} {fields}"
        if key not in texts:
            ENGINE.close()
            texts[key] = request(folder, prompt, **fields).submit().answer().text
        ENGINE.close()
        return texts[key]

    return alone


def record_instances(monkeypatch: pytest.MonkeyPatch, kind: type[Any]) -> list[Any]:
    """Return a list that receives all new instances of a class."""
    instances: list[Any] = []
    init = kind.__init__

    def recorded(self: Any, *args: Any) -> None:
        instances.append(self)
        init(self, *args)

    monkeypatch.setattr(kind, "__init__", recorded)
    return instances


def request(folder: Path, prompt: str, **fields: Any) -> Call:
    """Return a request that has not been submitted."""
    return Call(make_request(folder, prompt, **({"model": NAME, "max_tokens": 24} | fields)))


def after(count: int, kind: type[Event], action: Callable[[], object]) -> Callable[[Event], None]:
    """Return a receiver that does something at the event of this number and kind."""
    left = count

    def on_event(event: Event) -> None:
        nonlocal left
        if isinstance(event, kind):
            left -= 1
            if left == 0:
                action()

    return on_event


def test_one_request_starts_no_batch(folder: Path, batches: list[Batch]) -> None:
    """A request without company is served by a Solo."""
    assert request(folder, "Hello").submit().answer().text
    assert batches == []


@pytest.mark.parametrize("fields", OPTIONS)
@pytest.mark.parametrize(("prompt", "at"), [("Hello", Text), (LONG, Prefill)])
def test_newcomer(  # noqa: PLR0913, PLR0917  # three fixtures, three parameters
    folder: Path,
    batches: list[Batch],
    alone: Alone,
    fields: dict[str, Any],
    prompt: str,
    at: type[Event],
) -> None:
    """A request that comes during another's prefill or decoding joins it; both answers hold."""
    expected = [alone(text, **fields) for text in (prompt, "And you?")]
    first, second = request(folder, prompt, **fields), request(folder, "And you?", **fields)
    first.on_event = after(1, at, second.submit)
    first.submit()
    answers = [first.answer(), second.answer()]
    assert [answer.text for answer in answers] == expected
    assert len(batches) == 1
    # The tokens of its own prefill do not count as cached.
    assert answers[0].done.cached_tokens == 0


@pytest.mark.parametrize("fields", OPTIONS)
def test_last_one_continues_solo(
    folder: Path,
    batches: list[Batch],
    alone: Alone,
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, Any],
) -> None:
    """When all others are done, the batch ends, and the last answer continues unchanged."""
    expected = alone("And you?", **fields)
    solos: list[Solo] = record_instances(monkeypatch, Solo)
    first, second = request(folder, "Hello", max_tokens=6), request(folder, "And you?", **fields)
    first.on_event = after(2, Text, second.submit)
    first.submit()
    first.answer()
    assert second.answer().text == expected
    assert len(batches) == 1
    assert [solo._sequence.request for solo in solos] == [first.request, second.request]


@pytest.mark.parametrize("share", [loading.PREFIX_CACHE_SHARE, 0])
def test_no_prefill_after_a_handover(
    folder: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """A sequence keeps its KV cache, even without a prefix cache: one token is left to process."""
    monkeypatch.setattr(loading, "PREFIX_CACHE_SHARE", share)
    prepared: list[tuple[str, int]] = []
    prepare = RunningSequence.prepare

    def recorded(self: RunningSequence, *kind: str) -> tuple[Any, list[int]]:
        cache, unread = prepare(self, *kind)
        prepared.append((self.request.chat[0]["content"], len(unread)))
        return cache, unread

    ENGINE.close()
    monkeypatch.setattr(RunningSequence, "prepare", recorded)
    first, second = request(folder, LONG, max_tokens=12), request(folder, "And you?", max_tokens=60)
    first.on_event = after(3, Text, second.submit)
    first.submit()
    first.answer()
    second.answer()
    assert [prompt for prompt, _ in prepared] == [LONG, LONG, "And you?", "And you?"]
    assert [prepared[1], prepared[3]] == [(LONG, 1), ("And you?", 1)]


def test_cancelled_after_the_handover(folder: Path, alone: Alone) -> None:
    """A request that is cancelled in the batch leaves the other its answer."""
    expected = alone("And you?")
    first, second = request(folder, "Hello", max_tokens=4000), request(folder, "And you?")
    first.on_event = after(3, Text, second.submit)
    second.on_event = after(2, Text, first.cancel_token.cancel)
    first.submit()
    assert second.answer().text == expected


def test_newcomer_after_a_cancelled_one(folder: Path, batches: list[Batch], alone: Alone) -> None:
    """A request does not join one that has been cancelled."""
    expected = alone("And you?")
    first, second = request(folder, "Hello", max_tokens=4000), request(folder, "And you?")

    def leave() -> None:
        first.cancel_token.cancel()
        second.submit()

    first.on_event = after(3, Text, leave)
    first.submit()
    assert second.answer().text == expected
    assert batches == []


def test_failure_of_the_last_one(
    folder: Path, alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sequence that fails just after the other one has left the batch is not tried again."""
    expected = alone("And you?")
    step, failures = SharedSteps.step, 0
    first, second = request(folder, "Hello", max_tokens=4000), request(folder, "And you?")
    first.on_event = after(3, Text, second.submit)
    second.on_event = after(2, Text, first.cancel_token.cancel)

    def fail(steps: SharedSteps) -> Any:
        nonlocal failures
        if first.cancel_token.cancelled:
            failures += 1
            raise Fault("out of memory")
        return step(steps)

    with monkeypatch.context() as patch:
        patch.setattr(SharedSteps, "step", fail)
        first.submit()
        with pytest.raises(EngineError, match=r"^mlx/handover: Fault: out of memory$"):
            second.answer()
    assert failures == 1
    assert request(folder, "And you?").submit().answer().text == expected


def test_request_with_a_seed_stays_solo(folder: Path, batches: list[Batch], alone: Alone) -> None:
    """No request joins one that has a random state of its own."""
    fields: dict[str, Any] = {"seed": 7, "sampling": {"temperature": 1.0}}
    expected = alone("Hello", **fields)
    first, second = request(folder, "Hello", **fields), request(folder, "And you?")
    first.on_event = after(3, Text, second.submit)
    first.submit()
    assert first.answer().text == expected
    assert second.answer().text
    assert batches == []


def test_handover_that_fails(folder: Path, alone: Alone, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the first sequence can't continue in a batch, it fails, and the newcomer is answered."""
    expected = alone("And you?")
    add = Batch.add

    def refuse_first(self: Batch, sequence: RunningSequence) -> None:
        if sequence.request is first.request:
            raise Fault("no room")
        add(self, sequence)

    monkeypatch.setattr(Batch, "add", refuse_first)
    first, second = request(folder, "Hello"), request(folder, "And you?")
    first.on_event = after(3, Text, second.submit)
    first.submit()
    with pytest.raises(EngineError, match="no room"):
        first.answer()
    assert second.answer().text == expected
