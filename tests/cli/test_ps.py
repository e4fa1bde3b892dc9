"""`llm tiered ps` and `stop` with an engine: a real one, and what is shown of others."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.mlx.engine.requests import CancelToken
from llm_tiered.mlx.process import client, start
from llm_tiered.mlx.process.place import places
from llm_tiered.server.instances import Instance, announced
from tests.cli.commands import refused, run, run_json
from tests.cli.engines import NOW, status
from tests.mlx.engine.client import make_request
from tests.mlx.process.engines import end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from llm_tiered.mlx.process.client import RunningEngine


def at(shown: str) -> str:
    """The text with the time of now in it."""
    return shown.replace("NOW", time.strftime("%H:%M", time.localtime(NOW)))


@pytest.mark.usefixtures("user_path")
def test_nothing_runs() -> None:
    """Without an engine and a server there is nothing to show, and nothing is started."""
    result = run("ps")
    assert (result.stdout, result.stderr) == ("", "no engine runs\nno server runs\n")
    assert run_json("ps") == {"engine": None, "servers": []}
    assert client.running() is None


def test_idle(engine_says: Callable[..., None]) -> None:
    """The engine, and each model with the time at which it goes."""
    engine_says(status())
    assert run("ps").stdout == at(
        "engine: process 4711 since NOW, version 0.1.0, until NOW\n"
        "answers: 0 running, 0 waiting\n"
        "memory: 1.5 GB in 1 model of 16.0 GB that they may use\n"
        "\n"
        "model     memory    answers    tokens/s    last used    until\n"
        "mlx/tiny  1.5 GB    idle       -           NOW        NOW\n"
        "\n"
    )


def test_busy(engine_says: Callable[..., None]) -> None:
    """While it answers, the engine and the model stay; who waits is counted."""
    engine_says(status(running=2, waiting=3, until=None, model={"answers": 2, "until": None}))
    lines = run("ps").stdout.splitlines()
    assert lines[:2] == [
        at("engine: process 4711 since NOW, version 0.1.0"),
        "answers: 2 running, 3 waiting",
    ]
    assert lines[5].split() == ["mlx/tiny", "1.5", "GB", "2", "35.2", *at("NOW in use").split()]


def test_held_and_unloaded(engine_says: Callable[..., None]) -> None:
    """A server keeps the engine, but not the models, and it is said why those went."""
    gone = {"name": "mlx/tiny", "bytes": 10**9, "at": NOW, "reason": "1 GB was available"}
    engine_says(status(models=[], until=None, unloaded=[gone]))
    assert run("ps").stdout == at(
        "engine: process 4711 since NOW, version 0.1.0, until the server ends\n"
        "answers: 0 running, 0 waiting\n"
        "unloaded: mlx/tiny (1.0 GB) at NOW, 1 GB was available\n"
    )


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"version": "0.0.9"}, "version 0.0.9, and this is 0.1.0"),
        ({"version": "0.1.0"}, "version 0.1.0 of another installation"),
        (None, "version unknown, and this is 0.1.0"),
    ],
)
def test_another_version(
    other: dict[str, Any] | None, said: str, engine_says: Callable[..., None]
) -> None:
    """An engine that speaks another dialect is named as such, and little is expected of it."""
    engine_says({"identity": other, "pid": 4711, "started": NOW})
    line = at(f"engine: process 4711 since NOW, {said}: the next prompt replaces it\n")
    assert run("ps").stdout == line + "answers: 0 running, 0 waiting\n"
    facts = run_json("ps")["engine"]
    assert (facts["same_version"], facts["models"]) == (False, [])


@pytest.mark.usefixtures("user_path")
def test_servers() -> None:
    """Servers are shown with the way they were started."""
    url = "http://127.0.0.1:1/v1"
    with announced(Instance(url, "127.0.0.1", 1, kind="service", started=NOW)):
        shown = run("ps").stdout
        [facts] = run_json("ps")["servers"]
    assert shown == at(f"server: {url} since NOW (process {os.getpid()}), as a service\n")
    assert facts["url"] == url


@pytest.fixture
def engine(tiny: Path, user_path: Path) -> Iterator[Callable[..., RunningEngine]]:
    """Start an engine, with or without a model in memory. It is ended with the test."""

    def started(*, loaded: bool = False) -> RunningEngine:
        made = start.Starting(60.0).wait()
        assert made
        if not loaded:
            return made
        request = make_request(tiny, "Hello", model="mlx/tiny", max_tokens=2)
        ended = threading.Event()
        client.generate(made, request, 60.0, lambda _: None, CancelToken(), lambda _: ended.set())
        assert ended.wait(60)
        return made

    yield started
    if left := client.running():
        end(left)
    # One that was killed leaves its socket behind.
    for place in places():
        place.socket.unlink(missing_ok=True)


def test_real_engine(engine: Callable[..., RunningEngine], monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs is shown, one that hangs as well, and both can be ended."""
    started = engine(loaded=True)
    facts = run_json("ps")["engine"]
    [model] = facts["models"]
    assert (model["name"], model["answers"]) == ("mlx/tiny", 0)
    assert model["until"] == pytest.approx(facts["until"], abs=5)
    assert facts["log"] == str(started.place.log)
    pid = facts["pid"]
    assert run("stop").stdout == f"stopped: the engine (process {pid})\n"
    assert run_json("ps")["engine"] is None

    monkeypatch.setattr("llm_tiered.cli.ps.PATIENCE", 0.2)
    monkeypatch.setattr("llm_tiered.cli.stop.PATIENCE", 0.2)
    pid = engine().status["pid"]
    os.kill(pid, signal.SIGSTOP)
    assert run("ps").stdout == "engine: does not answer (llm tiered stop --now ends it)\n"
    assert "llm tiered stop --now kills it" in refused("stop")
    assert run("stop", "--now").stdout == "killed: the engine, which did not answer\n"
    assert run_json("ps")["engine"] is None


def test_an_engine_that_does_not_end(
    engine: Callable[..., RunningEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that hangs while it ends is killed after a while."""
    monkeypatch.setattr(client, "A_WHILE", 0.1)
    monkeypatch.setattr(client, "ENDS_WITHIN", 0.1)
    started = engine()
    pid = started.status["pid"]
    os.kill(pid, signal.SIGSTOP)
    with monkeypatch.context() as patch:
        # It had answered just before.
        patch.setattr(client, "look", lambda _: started)
        assert run("stop").stdout == f"killed: the engine (process {pid}), which did not end\n"
