"""One engine in each place: its lock and its socket, and when it leaves."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from llm_tiered.mlx.engine.engine import Engine
from llm_tiered.mlx.engine.requests import Limits
from llm_tiered.mlx.process import client, main
from llm_tiered.mlx.process.lifetime import Lifetime
from llm_tiered.mlx.process.main import Listener, Occupied
from llm_tiered.mlx.process.place import EngineFiles, places
from tests.mlx.models import PATIENCE
from tests.mlx.process.engines import engine_on_a_thread, wait_for, warm_model

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("user_path")

NAME = "mlx/shared"


def test_second_engine_takes_nothing_over() -> None:
    """While an engine runs, another one ends quietly, and its socket stays where it is."""
    with engine_on_a_thread():
        before = client.running()
        main.main(1, [places()[0]])
        after = client.running()
        assert before
        assert after
        assert before.status["instance"] == after.status["instance"]


def test_socket_left_over() -> None:
    """The socket of an engine that was killed is in nobody's way."""
    place = places()[0]
    place.prepare()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(place.socket))
    assert client.running() is None
    with engine_on_a_thread():
        assert client.running()


def test_lock_removed_while_it_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock on a file that is not there any more is worth nothing, and is taken again."""
    place = places()[0]
    flock = fcntl.flock
    locked: list[int] = []

    def remove_once(file: int, how: int) -> None:
        flock(file, how)
        if not locked:
            place.lock.unlink()
        locked.append(file)

    monkeypatch.setattr(fcntl, "flock", remove_once)
    listener = Listener(place)
    try:
        with pytest.raises(Occupied):
            Listener(place)
    finally:
        listener.remove()
        listener.socket.close()


def test_next_place(tmp_path: Path) -> None:
    """If the first place can't hold a socket, the engine listens in the next one."""
    first = EngineFiles(tmp_path / "file", "first")
    first.folder.touch()
    with pytest.raises(FileExistsError):
        main.main(1, [first])
    second = EngineFiles(tmp_path / "folder", "second")
    thread = threading.Thread(target=main.main, args=(0.05, [first, second]))
    thread.start()
    wait_for(second.socket.exists)
    thread.join(PATIENCE)
    assert not second.socket.exists()


def test_leaves_when_its_socket_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine whose folder was removed leaves, and touches nothing that came after it."""
    monkeypatch.setattr(main, "CHECK_INTERVAL", 0.02)
    place = places()[0]
    listener = Listener(place)
    thread = threading.Thread(target=lambda: asyncio.run(main.serve(listener, Engine(), 60)))
    thread.start()
    wait_for(client.running)
    shutil.rmtree(place.folder)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert not place.folder.exists()


def test_leaves_after_its_last_answer(folder: Path) -> None:
    """An engine stays for keep_warm after an answer, and then makes room for another one."""
    with engine_on_a_thread():
        model = warm_model(folder, NAME)
        model.limits = lambda: Limits(keep_warm=0.05)
        assert model.prompt("Hello", max_tokens=2).text()
        wait_for(lambda: not places()[0].socket.exists())
    with engine_on_a_thread():
        assert client.running()


def test_busy_engine_leaves_after_its_answers(folder: Path) -> None:
    """An engine that is asked to leave first completes what it has begun."""
    with engine_on_a_thread():
        pieces = iter(warm_model(folder, NAME).prompt("Hello", max_tokens=50))
        assert next(pieces)
        running = client.running()
        assert running
        assert not client.leave(running)
        assert len("".join(pieces)) > 50
        wait_for(lambda: not running.place.socket.exists())


def test_answers_are_broken_off_if_it_has_to_leave_now(folder: Path) -> None:
    """With `now` the answers end with an error, and no crash is noted."""
    with engine_on_a_thread():
        pieces = iter(warm_model(folder, NAME).prompt("Hello", max_tokens=100_000))
        assert next(pieces)
        running = client.running()
        assert running
        assert client.leave(running, now=True)
        with pytest.raises(Exception, match="closed before the answer was complete"):
            list(pieces)
    assert not places()[0].crashes.exists()


async def test_lifetime() -> None:
    """Time begins to run when the last user has gone; the latest keep_warm counts."""
    lifetime = Lifetime(50)
    assert lifetime.until
    with lifetime.use(70):
        assert lifetime.until is None
        with lifetime.use(60):
            pass
        assert lifetime.until is None
    left = lifetime.until - asyncio.get_running_loop().time() if lifetime.until else 0
    assert left
    lifetime.leave_when_idle()
    await asyncio.wait_for(lifetime.wait_until_left(), PATIENCE)
    assert lifetime.is_leaving


def test_mode_of_the_socket() -> None:
    """Socket and lock are for this user only, whatever the umask."""
    before = os.umask(0)
    try:
        listener = Listener(places()[0])
        modes = [path.stat().st_mode & 0o777 for path in places()[0].folder.iterdir()]
        listener.remove()
        listener.socket.close()
    finally:
        os.umask(before)
    assert modes == [0o600, 0o600]
