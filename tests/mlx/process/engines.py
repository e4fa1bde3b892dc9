"""Engines for tests: on a thread, as a process of their own, or scripted."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from llm_tiered.mlx.catalog import ModelSpec
from llm_tiered.mlx.engine.engine import Engine
from llm_tiered.mlx.engine.requests import Limits
from llm_tiered.mlx.models import AsyncMlxModel, MlxModel
from llm_tiered.mlx.process import client, main
from llm_tiered.mlx.process.identity import identity
from llm_tiered.mlx.process.place import places
from tests.mlx.models import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from llm_tiered.mlx.process.place import EngineFiles

WARM = Limits(keep_warm=60)


def wait_for(condition: Callable[[], Any]) -> Any:
    """Return the first result of the condition that is true."""
    ends = time.monotonic() + PATIENCE
    while not (result := condition()):
        assert time.monotonic() < ends
        time.sleep(0.005)
    return result


def warm_model(folder: Path, name: str) -> MlxModel:
    """A local model that is answered by the shared engine, if one runs."""
    return MlxModel(ModelSpec(model_id=name, path=folder), lambda: WARM, lambda _: None)


def async_warm_model(folder: Path, name: str) -> AsyncMlxModel:
    """The async model."""
    return AsyncMlxModel(ModelSpec(model_id=name, path=folder), lambda: WARM, lambda _: None)


@contextmanager
def engine_on_a_thread(keep_warm: float = 60, engine: Any = None) -> Iterator[Engine]:
    """Run an engine that listens like one in a process of its own, and end it."""
    engine, listener = engine or Engine(), main.Listener(places()[0])
    thread = threading.Thread(target=lambda: asyncio.run(main.serve(listener, engine, keep_warm)))
    thread.start()
    try:
        assert wait_for(client.running)
        yield engine
    finally:
        if running := client.running():
            client.leave(running, now=True)
        thread.join(PATIENCE)


@contextmanager
def engine_process(code: str = "", keep_warm: float = 60) -> Iterator[subprocess.Popen[str]]:
    """Start an engine as a process, after running some code in it, and end it."""
    stems = [str(place.folder / place.name) for place in places()]
    start = f"import runpy, sys\n{code}\n"
    start += "runpy.run_module('llm_tiered.mlx.process.main', run_name='__main__', alter_sys=True)"
    process = subprocess.Popen(
        [sys.executable, "-c", start, str(keep_warm), *stems],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_for(lambda: process.poll() is not None or client.running())
        yield process
    finally:
        process.kill()
        with process:
            pass


class ScriptedEngine:
    """Speaks the engine's dialect on its socket, and answers each request by a script.

    A script gets the connection after the headers of the answer were sent.
    """

    def __init__(self, script: Callable[[socket.socket], None], **status: Any) -> None:
        self.requests: list[str] = []
        self.place: EngineFiles = places()[0]
        self.place.prepare()
        self._status = {"identity": identity(), "instance": f"scripted {id(self)}", **status}
        self._script = script
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.place.socket))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def end(self) -> None:
        """Listen no more."""
        self.place.socket.unlink(missing_ok=True)
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE)

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as lines:
            first = lines.readline().decode()
            self.requests.append(" ".join(first.split()[:2]))
            length = 0
            while (line := lines.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split()[1])
            if "/generate" in first:
                # The body has no end: it holds all requests of a process.
                lines.readline()
            else:
                lines.read(length)
        if "/generate" in first:
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            self._script(connection)
            return
        self._send(connection, {"leaves": True} if "/leave" in first else self._status)
        if "/leave" in first:
            self.place.socket.unlink()

    def _send(self, connection: socket.socket, data: Any) -> None:
        body = json.dumps(data).encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def run_llm(*arguments: str) -> subprocess.Popen[str]:
    """Run llm's command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "llm", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process: subprocess.Popen[str]) -> str:
    """Return what the process prints; it has to succeed."""
    text, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, ""), errors
    return text


def end(engine: client.RunningEngine) -> None:
    """End an engine, whose process is not a child of this one."""
    client.leave(engine, now=True)
    wait_for(lambda: not engine.place.socket.exists())
    wait_for(lambda: not _is_alive(int(engine.status["pid"])))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
