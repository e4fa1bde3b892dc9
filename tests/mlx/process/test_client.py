"""The client against engines that follow a script, also where they break the rules."""

from __future__ import annotations

import json
import signal
import socket
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from llm.cli import cli

from llm_tiered.errors import EngineError, ModelUnavailable
from llm_tiered.mlx.engine.engine import ENGINE
from llm_tiered.mlx.engine.requests import Done, Failed, Limits, Started, Waiting
from llm_tiered.mlx.process import choice, client, connection, crashes, start, wire
from llm_tiered.mlx.process.connection import EngineConnection
from llm_tiered.mlx.process.place import places
from llm_tiered.mlx.tokens.decoding import Text
from tests.mlx.process.engines import ScriptedEngine, warm_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Script = Callable[[socket.socket], None]
    Start = Callable[..., ScriptedEngine]

NAME = "mlx/shared"
STARTED = wire.dump_event(Started())
WORD = wire.dump_event(Text("Hello"))
DONE = wire.dump_event(Done("stop", 1, 0, 1, 1.0, 1.0, 1, 0.0, 0.0))


@pytest.fixture
def scripted(user_path: Path) -> Iterator[Start]:
    """Start an engine that does what a script says."""
    engines: list[ScriptedEngine] = []

    def start_one(script: Script, **status: Any) -> ScriptedEngine:
        engines.append(ScriptedEngine(script, **status))
        return engines[-1]

    yield start_one
    for engine in engines:
        engine.end()


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[signal.Signals]:
    """The signals sent to engines, which are this process here."""
    sent: list[signal.Signals] = []
    monkeypatch.setattr(EngineConnection, "send_signal", lambda _, number: sent.append(number))
    return sent


def sends(*lines: bytes, pause: float = 0) -> Script:
    """A script that sends these lines and hangs up."""

    def script(stream: socket.socket) -> None:
        for line in lines:
            stream.sendall(line if line in (b"", wire.HEARTBEAT) else b"1 " + line)
            time.sleep(pause)

    return script


def ask(folder: Path, name: str = NAME) -> str:
    """Return the answer to a prompt."""
    text: str = warm_model(folder, name).prompt("Hello", max_tokens=2).text()
    return text


def test_answer(scripted: Start, folder: Path) -> None:
    """The events of the engine are the answer."""
    engine = scripted(sends(wire.HEARTBEAT, STARTED, WORD, wire.HEARTBEAT, WORD, DONE))
    assert ask(folder) == "HelloHello"
    assert engine.requests == ["GET /status", "POST /generate"]


@pytest.mark.usefixtures("signals")
def test_heartbeats_are_waited_for(
    scripted: Start, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as there are heartbeats, an answer may take its time."""
    monkeypatch.setattr(connection, "SILENCE", 1.0)
    scripted(sends(*[wire.HEARTBEAT] * 11, STARTED, WORD, DONE, pause=0.1))
    assert ask(folder) == "Hello"


@pytest.mark.parametrize("words", [(), (WORD,)], ids=["before", "after"])
def test_chain(words: tuple[bytes, ...], scripted: Start, folder: Path, config_file: Path) -> None:
    """The next tier answers if the engine dies before the first words, but not after them."""
    names = ("mlx/shared", "mlx/other")
    config = {
        "models": [{"id": name, "path": str(folder)} for name in names],
        "tiers": [
            {"name": "small", "complexity": "1-5", "model": names[0]},
            {"name": "large", "complexity": "6-10", "model": names[1]},
        ],
        "allow_cpu": True,
    }
    config_file.write_text(json.dumps(config))
    scripts = [sends(STARTED, WORD, DONE), sends(STARTED, *words)]
    scripted(lambda stream: scripts.pop()(stream))  # noqa: PLW0108 - one for each request
    asked = ["-m", "tiered", "-o", "complexity", "2", "Hello"]
    result = CliRunner().invoke(cli, asked)
    killed = "the engine was killed, or crashed, while it answered with mlx/shared"
    if words:
        assert result.exit_code == 1
        assert result.stdout == "Hello"
        assert f"mlx/shared broke off its answer: {killed}" in result.stderr
    else:
        assert result.stdout == "Hello\n"
        assert len(scripts) == 0


@pytest.mark.parametrize(
    "line", [b"", b'{"event"', b"nonsense\n", b'{"event": "Nothing"}\n'], ids=str
)
@pytest.mark.parametrize("words", [(), (WORD,)], ids=["before", "after"])
def test_broken_off(line: bytes, words: tuple[bytes, ...], scripted: Start, folder: Path) -> None:
    """An answer that is not complete is an error, and what was there of it is kept."""
    scripted(sends(STARTED, *words, line))
    pieces: list[str] = []
    with pytest.raises(EngineError, match="killed, or crashed, while it answered with mlx/shared"):
        pieces.extend(warm_model(folder, NAME).prompt("Hello"))
    assert len(crashes_noted()) == 1


def crashes_noted() -> list[str]:
    """The lines of the list of crashes."""
    return places()[0].crashes.read_text().splitlines()


def test_silence(
    scripted: Start,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    signals: list[signal.Signals],
) -> None:
    """An engine that sends nothing at all is killed."""
    monkeypatch.setattr(connection, "SILENCE", 0.1)
    scripted(lambda stream: (stream.sendall(b"1 " + STARTED), stream.recv(1)))
    with pytest.raises(EngineError, match="did not react for"):
        ask(folder)
    assert signals == [signal.SIGKILL]


def test_silent_engine_is_waited_for_aloud(
    user_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    signals: list[signal.Signals],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whoever waits for an engine that does not answer is told, before it is killed."""
    place = places()[0]
    place.prepare()
    monkeypatch.setattr(client, "SOON", 0.01)
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(place.socket))
        listener.listen()
        with pytest.raises(client.NoAnswer):
            client.look(0.02)
        assert caplog.messages == []
        assert client.running(0.02) is None
    assert signals == [signal.SIGKILL]
    assert caplog.messages == [
        "waiting for the engine, which does not answer (llm tiered stop --now ends it)"
    ]


@pytest.mark.parametrize("first", [(), (wire.dump_event(Waiting(1)),)], ids=["unseen", "waiting"])
def test_dies_before_it_begins(first: tuple[bytes, ...], scripted: Start, folder: Path) -> None:
    """A request that was waiting for its turn is asked again, and its model is not blamed."""
    scripts = [sends(STARTED, WORD, DONE), sends(*first)]
    engine = scripted(lambda stream: scripts.pop()(stream))  # noqa: PLW0108 - one for each request
    assert ask(folder) == "Hello"
    assert engine.requests.count("POST /generate") == 2
    assert not engine.place.crashes.exists()


def test_dies_each_time_before_it_begins(scripted: Start, folder: Path) -> None:
    """A request is not handed over again and again."""
    engine = scripted(sends())
    with pytest.raises(EngineError, match="ended each time"):
        ask(folder)
    assert engine.requests.count("POST /generate") == 3


def test_model_that_crashes_twice_is_left_alone(
    scripted: Start, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the second engine that died in its answer, a model is not asked for a while."""
    for number, callers in enumerate((2, 1)):
        engine = scripted(sends(STARTED), instance=str(number))
        monkeypatch.setattr(choice, "_SHARED", choice._SharedEngine())
        # Several notice the same crash.
        for _ in range(callers):
            with pytest.raises(EngineError):
                ask(folder)
        engine.end()
    model = warm_model(folder, NAME)
    for attempt in (lambda: ask(folder), lambda: model.check(allow_cpu=True)):
        with pytest.raises(ModelUnavailable, match=r"left alone until \d\d:\d\d,") as raised:
            attempt()
        assert raised.value.fix
        assert str(places()[0].crashes) in raised.value.fix
    crashes.check("mlx/another")
    places()[0].crashes.unlink()
    crashes.check(NAME)


def test_crashes_are_forgotten(user_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two crashes that lie far apart, or long ago, count no more."""
    place = places()[0]
    place.prepare()
    now = time.time()
    for times, is_blamed in [((0, 60), True), ((0, 700), False), ((0, 700, 800), True)]:
        place.crashes.unlink(missing_ok=True)
        for instance, moment in enumerate(times):
            monkeypatch.setattr(time, "time", lambda moment=moment: now + moment)
            crashes.record(place, str(instance), NAME)
        if is_blamed:
            with pytest.raises(ModelUnavailable):
                crashes.check(NAME)
            monkeypatch.setattr(time, "time", lambda: now + times[-1] + crashes.ALONE)  # noqa: B023
        crashes.check(NAME)


def test_damaged_list_of_crashes(user_path: Path) -> None:
    """Lines that are no crashes are passed over, and a long list begins anew."""
    place = places()[0]
    place.prepare()
    crashes.check(NAME)
    place.crashes.write_bytes(b'\xff{"engine": 1}\n[]\n{"model": "mlx/shared"}\n' * 1000)
    crashes.check(NAME)
    crashes.record(place, "1", NAME)
    assert len(crashes_noted()) == 1


def test_another_version_is_not_asked(scripted: Start, folder: Path) -> None:
    """This process answers by itself if the engine is of another version, and lets it be."""
    engine = scripted(sends(), identity={"protocol": 99})
    try:
        assert ask(folder)
    finally:
        ENGINE.close()
    assert set(engine.requests) == {"GET /status"}


def test_command_line_asks_another_version_to_leave(
    scripted: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Llm's command line does, and starts an engine of its own version."""
    started: list[float] = []
    monkeypatch.setattr(start, "is_permitted", lambda: True)
    monkeypatch.setattr(start, "Starting", started.append)
    engine = scripted(sends(), identity={"protocol": 99})
    choice.engine_for(NAME, Limits(keep_warm=7))
    assert engine.requests[:2] == ["GET /status", "POST /leave"]
    assert started == [7]


def test_no_engine_is_used_with_keep_warm_0(scripted: Start) -> None:
    """With keep_warm 0, an engine that runs is not even looked at."""
    engine = scripted(sends())
    assert choice.engine_for(NAME, Limits()) is ENGINE
    assert engine.requests == []


def test_status_of_nothing(user_path: Path) -> None:
    """Where no engine runs, there is no status, and nothing is written."""
    assert client.running() is None
    assert list(user_path.iterdir()) == []


def test_large_model_in_memory_without_a_gpu(
    scripted: Start, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that was loaded for somebody who named it is still too slow for others."""
    model = {"name": NAME, "folder": str(folder), "parameters": 2 * 10**9}
    scripted(sends(), models=[model], device="cpu")
    checked: list[bool] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "llm_tiered.mlx.weights.store.check",
            lambda *_, allow_cpu, **__: checked.append(allow_cpu),
        )
        for allow_cpu in (True, False):
            warm_model(folder, NAME).check(allow_cpu=allow_cpu)
    assert checked == [False]


def test_failure_in_the_engine(scripted: Start, folder: Path) -> None:
    """An error in the engine is raised as the same error here, and is no crash."""
    failed = Failed(ModelUnavailable("too large", fix="use less"))
    engine = scripted(sends(STARTED, wire.dump_event(failed)))
    with pytest.raises(ModelUnavailable, match=r"too large \(use less\)"):
        ask(folder)
    assert not engine.place.crashes.exists()
