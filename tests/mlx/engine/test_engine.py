"""The engine: simultaneous requests, failures, cancelling, and closing."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import llm
import pytest

from llm_tiered.errors import ModelUnavailable, RequestError, TieredError
from llm_tiered.mlx.engine.engine import ENGINE, Engine
from llm_tiered.mlx.engine.loading import LoadedModel
from llm_tiered.mlx.engine.requests import CancelToken, Done, Failed, Started
from llm_tiered.mlx.engine.worker import Worker
from tests.mlx.engine.client import Call, make_request
from tests.mlx.models import PATIENCE, ask
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llm_tiered.mlx.engine.batch import Batch
    from llm_tiered.mlx.engine.requests import Event
    from llm_tiered.mlx.engine.solo import Solo

NAME = "mlx/engine"
OTHER = "mlx/engine-other"
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 10}
QUESTIONS = [f"What is {number} times {number}?" for number in range(16)]
FOREVER = 100_000  # tokens: minutes of work


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that can generate for minutes."""
    return build("qwen2", tmp_path_factory.mktemp("engine"), context=2 * FOREVER)


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a second model."""
    return build("phi3", tmp_path_factory.mktemp("other"))


@pytest.fixture(autouse=True)
def _registered(folder: Path, other_folder: Path, config_file: Path) -> None:
    """Add both models in the config."""
    models = [{"id": NAME, "path": str(folder)}, {"id": OTHER, "path": str(other_folder)}]
    config_file.write_text(json.dumps({"models": models}))


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine for this test only."""
    engine = Engine()
    yield engine
    engine.close()


def submit(engine: Engine, folder: Path, **fields: Any) -> Call:
    """Submit a request to the model in the folder."""
    request = make_request(folder, "Hello", **({"model": NAME} | fields))
    return Call(request, engine).submit()


def answer(question: str, name: str = NAME) -> str:
    """Return the answer of a registered model."""
    return llm.get_model(name).prompt(question, **GREEDY).text()


def threads() -> set[threading.Thread]:
    """Return the threads that are alive."""
    return set(threading.enumerate())


def test_many_threads_get_their_own_answers() -> None:
    """Threads that ask two models simultaneously get the answers that they get one by one."""
    calls = [(question, name) for question in QUESTIONS[:8] for name in (NAME, OTHER)]
    expected = [answer(*call) for call in calls]
    assert len(set(expected)) > 12
    with ThreadPoolExecutor(len(calls)) as pool:
        assert list(pool.map(lambda call: answer(*call), calls)) == expected


async def test_many_tasks_get_their_own_answers() -> None:
    """Tasks that ask simultaneously get the answers that they get one by one."""
    expected = [answer(question) for question in QUESTIONS]
    assert len(set(expected)) > 12
    model = llm.get_async_model(NAME)

    async def ask(question: str) -> str:
        return await model.prompt(question, **GREEDY).text()

    assert await asyncio.gather(*map(ask, QUESTIONS)) == expected


def test_one_failure_affects_no_other(engine: Engine, folder: Path, tmp_path: Path) -> None:
    """Of simultaneous requests, only those fail that have a reason to."""
    missing = tmp_path / "nothing"
    good, bad = submit(engine, folder), submit(engine, missing, model="mlx/bad")
    better, worse = submit(engine, folder), submit(engine, missing, model="mlx/bad")
    assert isinstance(good.outcome()[1], Done)
    assert better.outcome()[0] == submit(engine, folder).outcome()[0]
    for call in (bad, worse):
        _, event = call.outcome()
        assert isinstance(event, Failed)
        assert isinstance(event.error, ModelUnavailable)
        assert "nothing" in str(event.error)


@pytest.mark.parametrize(
    "change",
    [{"model_type": "unheard_of"}, {"hidden_size": 128}, {"num_hidden_layers": 3}],
    ids=str,
)
def test_model_that_does_not_load(
    change: dict[str, Any], engine: Engine, folder: Path, tmp_path: Path
) -> None:
    """A model that MLX can't load fails with an error that names it, and the next one works."""
    odd = shutil.copytree(folder, tmp_path / "odd")
    config = json.loads((odd / "config.json").read_text())
    (odd / "config.json").write_text(json.dumps(config | change))
    text, event = submit(engine, odd, model="mlx/odd").outcome()
    assert text == ""
    assert isinstance(event, Failed)
    assert isinstance(event.error, TieredError)
    assert "mlx/odd" in str(event.error)
    assert isinstance(submit(engine, folder).outcome()[1], Done)


def test_template_rejects_the_chat(engine: Engine, folder: Path, tmp_path: Path) -> None:
    """If the chat template rejects a chat, that request can't be served, but the next one is."""
    odd = shutil.copytree(folder, tmp_path / "odd")
    template = """\
{%- if messages[0].content == "Hello" %}{{- raise_exception("never say hello") }}{%- endif %}
{{- messages[0].content }}"""
    (odd / "chat_template.jinja").write_text(template)
    text, event = submit(engine, odd, model="mlx/odd").outcome()
    assert text == ""
    assert isinstance(event, Failed)
    assert isinstance(event.error, RequestError)
    assert str(event.error) == (
        "the chat template of mlx/odd rejects the conversation: never say hello"
    )
    other = Call(make_request(odd, "Hi", model="mlx/odd"), engine).submit()
    assert isinstance(other.outcome()[1], Done)


def test_cancel_ends_a_request(engine: Engine, folder: Path) -> None:
    """A cancelled request ends long before its max_tokens, and the next one is served."""
    call = submit(engine, folder, max_tokens=FOREVER)
    call.wait_for_text()
    call.cancel_token.cancel()
    assert isinstance(submit(engine, folder).outcome()[1], Done)
    engine.close()
    events = call.unread()
    assert len(events) < FOREVER // 10
    assert not any(isinstance(event, Done) for event in events)


def test_cancelled_before_its_turn(engine: Engine, folder: Path) -> None:
    """A request that is cancelled while it waits is never served."""
    running = submit(engine, folder, max_tokens=FOREVER)
    running.wait_for_text()
    waiting = submit(engine, folder, max_tokens=FOREVER)
    waiting.cancel_token.cancel()
    running.cancel_token.cancel()
    assert isinstance(submit(engine, folder).outcome()[1], Done)
    assert not any(isinstance(event, Done) for event in waiting.unread())


def test_reading_no_further_ends_a_request() -> None:
    """If an answer is abandoned in the middle, the model is free for the next one."""
    pieces = iter(llm.get_model(NAME).prompt("Hello", max_tokens=FOREVER))
    assert next(pieces)
    del pieces
    assert answer("Hello")


async def test_cancelling_a_task_ends_a_request() -> None:
    """A cancelled task leaves the model free for the next one."""
    has_begun = asyncio.Event()

    async def read() -> None:
        async for _ in llm.get_async_model(NAME).prompt("Hello", max_tokens=FOREVER):
            has_begun.set()

    task = asyncio.create_task(read())
    await asyncio.wait_for(has_begun.wait(), PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    response = llm.get_async_model(NAME).prompt("Hello", **GREEDY)
    assert await asyncio.wait_for(response.text(), PATIENCE)


async def test_requests_that_wait_for_room_hold_up_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More prompts than an engine takes wait for it, and the loop's threads are free meanwhile."""
    monkeypatch.setattr(ENGINE, "_slots", threading.BoundedSemaphore(1))
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    running = submit(ENGINE, folder, max_tokens=FOREVER)
    model: Any = llm.get_async_model(NAME)
    waiting = [asyncio.ensure_future(ask(model, each, **GREEDY)) for each in QUESTIONS[:3]]
    for task in waiting:
        assert not await asyncio.wait_for(asyncio.to_thread(task.done), PATIENCE)
    waiting.pop().cancel()
    running.cancel_token.cancel()
    assert all(await asyncio.gather(*waiting))


def test_close_ends_the_worker(engine: Engine, folder: Path) -> None:
    """close() leaves neither a thread nor a model behind, and may be called again."""
    before = threads()
    submit(engine, folder).outcome()
    assert threads() > before
    assert engine.resident() == {NAME: folder}
    engine.close()
    engine.close()
    assert threads() == before
    assert engine.resident() == {}


def test_submit_after_close(engine: Engine, folder: Path) -> None:
    """After close() the next request starts a new worker, and gets the same answer."""
    first, _ = submit(engine, folder).outcome()
    engine.close()
    assert submit(engine, folder).outcome()[0] == first


def test_close_fails_requests_in_flight(engine: Engine, folder: Path) -> None:
    """close() ends running and waiting requests with Failed, so that nothing waits forever."""
    running = submit(engine, folder, max_tokens=500)
    running.wait_for_text()
    waiting = [submit(engine, folder, max_tokens=50) for _ in range(2)]
    engine.close()
    for call in (running, *waiting):
        events = call.unread()
        assert events
        assert isinstance(events[-1], Failed)


def test_emit_that_raises_affects_no_other(engine: Engine, folder: Path) -> None:
    """A request whose emit raises, as that of a closed event loop does, is dropped."""
    calls = 0

    def emit(_: object) -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError("Event loop is closed")

    engine.submit(make_request(folder, "Hello", max_tokens=FOREVER), emit, CancelToken())
    assert isinstance(submit(engine, folder).outcome()[1], Done)
    engine.close()
    assert calls == 1


def test_requests_that_come_while_another_starts_join_it(
    engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They start before its first step: all are read together, and none waits for a step."""
    order: list[str] = []
    step = Worker._step

    def noted(worker: Worker, runner: Batch | Solo) -> None:
        order.append("step")
        step(worker, runner)

    monkeypatch.setattr(Worker, "_step", noted)
    calls = [Call(make_request(folder, each, model=NAME), engine) for each in QUESTIONS[:4]]

    def start(event: Event) -> None:
        if isinstance(event, Started):
            order.append("start")
            if len(order) == 1:
                for call in calls[1:]:
                    call.submit()

    for call in calls:
        call.on_event = start
    calls[0].submit()
    assert all(call.answer().text for call in calls)
    assert order[:5] == [*["start"] * 4, "step"]


def test_files_are_compared_once_for_requests_that_start_together(
    engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a model's files have changed is looked up once for all that start at the time."""
    looks: list[Path] = []
    is_current = LoadedModel.is_current

    def counted(model: LoadedModel) -> bool:
        looks.append(model.files.path)
        return is_current(model)

    assert submit(engine, folder).answer()
    monkeypatch.setattr(LoadedModel, "is_current", counted)
    calls = [Call(make_request(folder, each, model=NAME), engine) for each in QUESTIONS[:8]]

    def submit_others(event: Event) -> None:
        if isinstance(event, Started):
            for call in calls[1:]:
                call.submit()

    calls[0].on_event = submit_others
    calls[0].submit()
    assert all(call.answer().text for call in calls)
    # Once for the first one, and once for those that came while it started.
    assert looks == [folder, folder]
