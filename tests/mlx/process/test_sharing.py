"""Prompts of several callers to one engine: what they share, and what each sees of it."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.mlx.engine.engine import ENGINE, Engine
from llm_tiered.mlx.engine.requests import PROGRESS, CancelToken, Done, Failed, Loading, Started
from llm_tiered.mlx.process import choice, client
from llm_tiered.mlx.process.place import places
from llm_tiered.mlx.process.reader import READER
from llm_tiered.mlx.process.remote import RemoteEngine
from tests.mlx.engine.client import make_request
from tests.mlx.models import PATIENCE
from tests.mlx.process.engines import WARM, async_warm_model, wait_for, warm_model

if TYPE_CHECKING:
    from pathlib import Path

    from llm_tiered.mlx.engine.requests import Event, GenerationRequest
    from llm_tiered.mlx.process.client import RunningEngine

pytestmark = pytest.mark.usefixtures("engine")

NAME = "mlx/shared"
FOREVER = 100_000


def remote() -> RemoteEngine:
    """The engine as a caller sees it."""
    engine = choice.engine_for(NAME, WARM)
    assert isinstance(engine, RemoteEngine)
    return engine


def events_of(engine: Engine | RemoteEngine, request: GenerationRequest) -> list[Event]:
    """All events of a request."""
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    engine.submit(request, events.put, CancelToken())
    seen = [events.get(timeout=PATIENCE)]
    while not isinstance(seen[-1], (Done, Failed)):
        seen.append(events.get(timeout=PATIENCE))
    return seen


def without_times(events: list[Event]) -> list[Any]:
    """The events without what depends on the speed of the machine."""
    return [
        {**vars(event), "prompt_tps": 0, "generation_tps": 0, "peak_memory": 0}
        for event in events
        if not isinstance(event, Loading)
    ]


def status() -> dict[str, Any]:
    """What the engine says of itself."""
    running = client.running()
    assert running
    return dict(running.status)


def test_model_is_in_the_engine_only(folder: Path, engine: Engine) -> None:
    """The engine loads the model, and this process does not."""
    model = warm_model(folder, NAME)
    model.check(allow_cpu=False)
    assert model.prompt("Hello", max_tokens=5).text()
    assert engine.resident() == {NAME: folder}
    assert NAME not in ENGINE.resident()


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": 3, "sampling": {"temperature": 1.0}},
        {"logprobs": 2},
        {"schema": {"type": "object", "properties": {"a": {"type": "integer"}}}, "seed": 1},
        {"stop": ("a", "e")},
        {"kv_bits": 3},
    ],
    ids=["seed", "logprobs", "schema", "stop", "failure"],
)
def test_same_events_as_in_this_process(folder: Path, fields: dict[str, Any]) -> None:
    """The events are those of an engine in this process, in the same order."""
    own = Engine()
    with closing(own):
        request = make_request(folder, "What is a scale?", **({"seed": 0, "model": NAME} | fields))
        shared, ours = events_of(remote(), request), events_of(own, request)
    if isinstance(ours[-1], Failed):
        theirs = shared[-1]
        assert isinstance(theirs, Failed)
        assert type(theirs.error) is type(ours[-1].error)
        assert str(theirs.error) == str(ours[-1].error)
    else:
        assert without_times(shared) == without_times(ours)
    assert Started() in shared


def test_later_turns_read_only_what_is_new(folder: Path) -> None:
    """What another caller's prompt was read for need not be read again."""
    first = "Write an exercise for the left hand. " * 20
    for cached in (0, 100):
        response = warm_model(folder, NAME).prompt(first, max_tokens=2)
        response.text()
        assert (response.token_details or {}).get("cached_tokens", 0) >= cached


async def test_async_prompts_are_answered_together(folder: Path) -> None:
    """Many prompts of the async model at once, more than run together, get their answers."""
    model = async_warm_model(folder, NAME)
    prompts = [f"Number {number}" for number in range(40)]
    answers = await asyncio.gather(*(model.prompt(each, max_tokens=4).text() for each in prompts))
    assert all(answers)


def test_cancelled_within_a_step(folder: Path) -> None:
    """A caller that stops reading ends its answer in the engine."""
    pieces = iter(warm_model(folder, NAME).prompt("Go on", max_tokens=FOREVER))
    assert next(pieces)
    assert status()["running"] == 1
    pieces.close()  # type: ignore[attr-defined]  # llm returns a generator
    wait_for(lambda: status()["running"] == 0)
    # That was no crash of the engine.
    wait_for(lambda: not [thread for thread in threading.enumerate() if thread.name == "engine"])
    assert not places()[0].crashes.exists()


async def test_async_cancelled_within_a_step(folder: Path) -> None:
    """The same holds for a task that is cancelled."""
    response = async_warm_model(folder, NAME).prompt("Go on", max_tokens=FOREVER)
    task = asyncio.ensure_future(response.text())
    while not (await asyncio.to_thread(status))["running"]:
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    while (await asyncio.to_thread(status))["running"]:
        await asyncio.sleep(0.005)


def test_only_unix_sockets(folder: Path, connections: list[Any]) -> None:
    """A prompt opens no connection but those to the engine's socket."""
    assert warm_model(folder, NAME).prompt("Hello", max_tokens=2).text()
    assert connections
    assert {type(address) for address in connections} == {str}


def test_loaded_model_is_not_inspected(
    folder: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    """A model in the engine's memory is asked without a look at its files or at MLX."""
    warm_model(folder, NAME).prompt("Hello", max_tokens=2).text()

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("the files were looked at")

    monkeypatch.setattr("llm_tiered.mlx.weights.store.ready", fail)
    monkeypatch.setattr("llm_tiered.mlx.weights.store.check", fail)
    monkeypatch.setattr("llm_tiered.mlx.device.detect", fail)
    model = warm_model(folder, NAME)
    model.check(allow_cpu=False)
    assert events_of(remote(), make_request(folder, "Hello", model=NAME))


def test_threads_share_the_model(folder: Path) -> None:
    """Prompts of several threads run at the same time."""
    texts: list[str] = []
    barrier = threading.Barrier(4)

    def ask(number: int) -> None:
        barrier.wait(PATIENCE)
        texts.append(warm_model(folder, NAME).prompt(f"Prompt {number}", max_tokens=20).text())

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(texts) == 4


def test_socket_is_private() -> None:
    """Nobody else can reach the socket."""
    running = client.running()
    assert running
    assert running.place.folder.stat().st_mode & 0o777 == 0o700
    assert running.place.socket.stat().st_mode & 0o777 == 0o600


def test_progress_comes_first(folder: Path) -> None:
    """What comes before the answer comes before it."""
    request = make_request(folder, "Say what you like", model=NAME)
    events = events_of(remote(), request)
    kinds = [isinstance(event, PROGRESS) for event in events]
    assert kinds == sorted(kinds, reverse=True)


async def test_warm_model_takes_no_detour(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server's prompts to a model that is warm need no thread, and no look at the engine."""
    looks: list[float] = []
    now, look = time.monotonic(), client.running

    def counted() -> RunningEngine | None:
        looks.append(now)
        return look()

    monkeypatch.setattr(choice, "FRESH", 0)
    monkeypatch.setattr(choice, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(client, "running", counted)
    READER.keep_channels(keep=True)
    try:
        model = async_warm_model(folder, NAME)
        # The first may load it, and the second sees it in memory.
        for _ in range(2):
            assert await model.prompt("Hello", max_tokens=2).text()
        looks.clear()
        with monkeypatch.context() as patch:
            patch.setattr(asyncio, "to_thread", None)
            patch.setattr(threading, "Thread", None)
            for _ in range(3):
                now += choice.LATELY / 4
                assert await model.prompt("Hello", max_tokens=2).text()
        assert looks == []
        now += choice.LATELY
        for _ in range(2):
            assert await model.prompt("Hello", max_tokens=2).text()
        assert looks == [now]
    finally:
        READER.keep_channels(keep=False)
