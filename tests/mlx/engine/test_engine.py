from __future__ import annotations

import asyncio
import json
import queue
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import llm
import pytest

from llm_tiered.errors import ModelUnavailable, TieredError
from llm_tiered.mlx.engine.engine import Engine
from llm_tiered.mlx.engine.requests import (
    CancelToken,
    Done,
    Event,
    Failed,
    GenerationRequest,
    Prefill,
)
from llm_tiered.mlx.tokens.decoding import Text
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "mlx/engine"
OTHER = "mlx/engine-other"
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 10}
QUESTIONS = [f"What is {number} times {number}?" for number in range(16)]
FOREVER = 100_000  # tokens: minutes of work
PATIENCE = 60  # seconds, for what takes far less


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a model that can talk for minutes."""
    return build("qwen2", tmp_path_factory.mktemp("engine"), context=2 * FOREVER)


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a second model."""
    return build("phi3", tmp_path_factory.mktemp("other"))


@pytest.fixture(autouse=True)
def _registered(folder: Path, other_folder: Path, config_file: Path) -> None:
    """Let the config name them."""
    models = [{"id": NAME, "path": str(folder)}, {"id": OTHER, "path": str(other_folder)}]
    config_file.write_text(json.dumps({"models": models}))


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Give an engine of the test's own."""
    engine = Engine()
    yield engine
    engine.close()


class Call:
    """A request under way, and the events that it got."""

    def __init__(
        self,
        engine: Engine,
        folder: Path,
        *,
        model: str = NAME,
        prompt: str = "Hello",
        max_tokens: int = 10,
    ) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.cancel_token = CancelToken()
        request = GenerationRequest(
            model=model,
            folder=folder,
            budget=10**9,
            chat=({"role": "user", "content": prompt},),
            max_tokens=max_tokens,
            sampling={"temperature": 0.0},
        )
        engine.submit(request, self.events.put, self.cancel_token)

    def next(self) -> Event:
        """Wait for the next event that is no progress of reading."""
        while isinstance(event := self.events.get(timeout=PATIENCE), Prefill):
            pass
        return event

    def finish(self) -> tuple[str, Done | Failed]:
        """Wait for the last event; gives it with the text up to there."""
        text = ""
        while isinstance(event := self.next(), Text):
            text += event.text
        assert isinstance(event, Done | Failed)
        return text, event


def answer(question: str, name: str = NAME) -> str:
    """Ask one of the models."""
    return llm.get_model(name).prompt(question, **GREEDY).text()


def workers() -> set[threading.Thread]:
    """Give the threads that are alive now."""
    return set(threading.enumerate())


def test_many_threads_get_their_own_answers() -> None:
    """Threads that ask two models at once get the answers that they would get one by one."""
    calls = [(question, name) for question in QUESTIONS[:8] for name in (NAME, OTHER)]
    expected = [answer(*call) for call in calls]
    assert len(set(expected)) > 12
    with ThreadPoolExecutor(len(calls)) as pool:
        assert list(pool.map(lambda call: answer(*call), calls)) == expected


async def test_many_tasks_get_their_own_answers() -> None:
    """Tasks that ask at once get the answers that they would get one by one."""
    expected = [answer(question) for question in QUESTIONS]
    assert len(set(expected)) > 12
    model = llm.get_async_model(NAME)

    async def ask(question: str) -> str:
        return await model.prompt(question, **GREEDY).text()

    assert await asyncio.gather(*map(ask, QUESTIONS)) == expected


def test_one_failure_harms_nobody_else(engine: Engine, folder: Path, tmp_path: Path) -> None:
    """Of requests made at once, only those fail that have a reason to."""
    good, bad = Call(engine, folder), Call(engine, tmp_path / "nothing", model="mlx/bad")
    better, worse = Call(engine, folder), Call(engine, tmp_path / "nothing", model="mlx/bad")
    assert isinstance(good.finish()[1], Done)
    assert better.finish()[0] == Call(engine, folder).finish()[0]
    for call in (bad, worse):
        _, event = call.finish()
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
    """A model that MLX can't load fails in one line that names it, and the next one works."""
    odd = shutil.copytree(folder, tmp_path / "odd")
    config = json.loads((odd / "config.json").read_text())
    (odd / "config.json").write_text(json.dumps(config | change))
    text, event = Call(engine, odd, model="mlx/odd").finish()
    assert text == ""
    assert isinstance(event, Failed)
    assert isinstance(event.error, TieredError)
    assert "mlx/odd" in str(event.error)
    assert isinstance(Call(engine, folder).finish()[1], Done)


def test_error_while_generating(engine: Engine, folder: Path, tmp_path: Path) -> None:
    """What goes wrong after loading fails with an error of ours, and the model goes on."""
    odd = shutil.copytree(folder, tmp_path / "odd")
    template = """\
{%- if messages[0].content == "Hello" %}{{- raise_exception("never say hello") }}{%- endif %}
{{- messages[0].content }}"""
    (odd / "chat_template.jinja").write_text(template)
    text, event = Call(engine, odd, model="mlx/odd").finish()
    assert text == ""
    assert isinstance(event, Failed)
    assert isinstance(event.error, TieredError)
    assert "mlx/odd" in str(event.error)
    assert "never say hello" in str(event.error)
    assert isinstance(Call(engine, odd, model="mlx/odd", prompt="Hi").finish()[1], Done)


def test_cancel_ends_a_request(engine: Engine, folder: Path) -> None:
    """A cancelled request ends long before its max_tokens, and the next one is served."""
    call = Call(engine, folder, max_tokens=FOREVER)
    assert isinstance(call.next(), Text)
    call.cancel_token.cancel()
    assert isinstance(Call(engine, folder).finish()[1], Done)
    engine.close()
    left = [call.events.get() for _ in range(call.events.qsize())]
    assert len(left) < FOREVER // 10
    assert not any(isinstance(event, Done) for event in left)


def test_cancelled_before_its_turn(engine: Engine, folder: Path) -> None:
    """A request that is cancelled while it waits is never served."""
    running = Call(engine, folder, max_tokens=FOREVER)
    assert isinstance(running.next(), Text)
    waiting = Call(engine, folder, max_tokens=FOREVER)
    waiting.cancel_token.cancel()
    running.cancel_token.cancel()
    assert isinstance(Call(engine, folder).finish()[1], Done)
    assert not any(isinstance(waiting.events.get(), Done) for _ in range(waiting.events.qsize()))


def test_stopping_to_read_ends_a_request() -> None:
    """Whoever stops reading an answer in the middle leaves the model free for the next."""
    pieces = iter(llm.get_model(NAME).prompt("Hello", max_tokens=FOREVER))
    assert next(pieces)
    del pieces
    assert answer("Hello")


async def test_cancelling_a_task_ends_a_request() -> None:
    """A cancelled task leaves the model free for the next."""
    started = asyncio.Event()

    async def read() -> None:
        async for _ in llm.get_async_model(NAME).prompt("Hello", max_tokens=FOREVER):
            started.set()

    task = asyncio.create_task(read())
    await asyncio.wait_for(started.wait(), PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    response = llm.get_async_model(NAME).prompt("Hello", **GREEDY)
    assert await asyncio.wait_for(response.text(), PATIENCE)


def test_close_ends_the_worker(engine: Engine, folder: Path) -> None:
    """close() leaves neither a thread nor a model behind, and may be called again."""
    before = workers()
    Call(engine, folder).finish()
    assert workers() > before
    assert engine.resident() == {NAME: folder}
    engine.close()
    engine.close()
    assert workers() == before
    assert engine.resident() == {}


def test_submit_after_close(engine: Engine, folder: Path) -> None:
    """After close() the next request starts over, with the same answer."""
    first, _ = Call(engine, folder).finish()
    engine.close()
    assert Call(engine, folder).finish()[0] == first


def test_close_fails_what_is_under_way(engine: Engine, folder: Path) -> None:
    """close() ends what is generated and what waits with Failed, so that nobody waits forever."""
    running = Call(engine, folder, max_tokens=500)
    assert isinstance(running.next(), Text)
    waiting = [Call(engine, folder, max_tokens=50) for _ in range(2)]
    engine.close()
    for call in (running, *waiting):
        left = [call.events.get() for _ in range(call.events.qsize())]
        assert left
        assert isinstance(left[-1], Failed)


def test_emit_that_raises_harms_nobody_else(folder: Path) -> None:
    """A request whose emit raises, as that of a closed event loop does, is dropped."""
    done = apart(
        folder,
        """
def closed(event):
    raise RuntimeError("Event loop is closed")

engine.submit(request, closed, CancelToken())
print(ask())
""",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "Text\n", "")


def test_nothing_is_begun_once_the_process_ends(folder: Path) -> None:
    """A prompt at the very end gets an error; another worker would make MLX abort the process."""
    done = apart(
        folder,
        """
def late():
    try:
        ask()
    except EngineError as error:
        print(error)

atexit.register(late)
print(ask())
""",
    )
    expected = "Text\nthe process is exiting: no more answers can be generated\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


def test_forked_process(folder: Path) -> None:
    """A prompt in a process forked from one that has used MLX gets an error, and no waiting."""
    done = apart(
        folder,
        """
print(ask(), flush=True)
if os.fork() == 0:
    try:
        ask()
    except EngineError as error:
        print(error.message)
else:
    os.wait()
    print(ask())
""",
    )
    expected = "Text\nMLX can't be used in a process forked from one that has used it\nText\n"
    assert (done.returncode, done.stdout) == (0, expected)


def apart(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own: where something goes wrong, MLX aborts it all."""
    before = f"""
import atexit, os, queue
from pathlib import Path
from llm_tiered.errors import EngineError
from llm_tiered.mlx.engine.engine import Engine
from llm_tiered.mlx.engine.requests import GenerationRequest, Prefill, CancelToken

chat = ({{"role": "user", "content": "Hello"}},)
request = GenerationRequest("mlx/tiny", Path({str(folder)!r}), 10**9, chat, max_tokens=3)
engine = Engine()

def ask():
    events = queue.SimpleQueue()
    engine.submit(request, events.put, CancelToken())
    while isinstance(event := events.get(timeout=10), Prefill):
        pass
    return type(event).__name__
"""
    arguments = [sys.executable, "-c", before + code]
    return subprocess.run(arguments, check=False, capture_output=True, text=True, timeout=PATIENCE)
