"""The servers that run on this machine: each has a file, and keeps it locked while it lives."""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, TextIO, TypeAlias

from ..paths import servers_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# Seconds that a server has to end, with its answers and without them. It gives the answers 30 s.
ANSWERS_END = 45.0
SOON = 5.0

# Seconds after which people would like to know what they wait for.
A_WHILE = 1.0

Kind: TypeAlias = Literal["terminal", "background", "service"]

# Where a unit of systemd or launchd says that the server is its own.
SERVICE_VARIABLE = "LLM_TIERED_SERVICE"


@dataclass(frozen=True)
class Instance:
    """A server: its base URL, how it was started, and when, in seconds since 1970.

    `host` and `port` are what the user gave, `keys` the names of the keys. `log` is the file with
    its output, if it has one.
    """

    url: str
    host: str
    port: int
    kind: Kind = "terminal"
    keys: tuple[str, ...] = ()
    log: str | None = None
    pid: int = field(default_factory=os.getpid)
    started: float = field(default_factory=time.time)
    version: str = field(default_factory=lambda: version("llm-tiered"))


def machine() -> str:
    """Return the name of this machine as part of a file name: machines can share a home folder."""
    return re.sub(r"[^A-Za-z0-9-]", "-", platform.node())[:40] or "localhost"


def log_file() -> Path:
    """Return the file with the output of the server in the background, and of launchd's."""
    return servers_folder() / f"{machine()}.log"


@contextmanager
def announced(instance: Instance) -> Iterator[None]:
    """Let others know of this server for the block, if its file can be written and locked."""
    file = None
    # Windows has no such locks, and the folder may be read-only.
    with suppress(ImportError, OSError):
        file = _write(instance)
    try:
        yield
    finally:
        if file:
            with suppress(OSError):
                _file_of(instance).unlink()
            file.close()


def running() -> list[Instance]:
    """Return the servers that run on this machine, the oldest first."""
    try:
        files = list(servers_folder().glob(f"{machine()}-*.json"))
    except OSError:
        return []
    found = [instance for file in files if (instance := _read(file))]
    return sorted(found, key=lambda instance: instance.started)


def is_running(instance: Instance) -> bool:
    """Return whether a server still runs."""
    return _read(_file_of(instance)) == instance


def end(instance: Instance, *, now: bool, on_wait: Callable[[], object]) -> bool:
    """Ask a server to end and wait for that; return whether it did, and did not have to be killed.

    Its answers are ended too if it has to end `now`. `on_wait` is called if that takes a while.
    """
    for each in (signal.SIGTERM, signal.SIGINT) if now else (signal.SIGTERM,):
        _send(instance, each)
    if _ends(instance, A_WHILE):
        return True
    on_wait()
    if _ends(instance, SOON if now else ANSWERS_END):
        return True
    _send(instance, signal.SIGKILL)
    _ends(instance, SOON)
    return False


def _send(instance: Instance, number: signal.Signals) -> None:
    # The lock says that it lives, so that the number of its process can't be that of another one.
    if is_running(instance):
        with suppress(ProcessLookupError):
            os.kill(instance.pid, number)


def _ends(instance: Instance, within: float) -> bool:
    deadline = time.monotonic() + within
    while is_running(instance):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _file_of(instance: Instance) -> Path:
    return servers_folder() / f"{machine()}-{instance.pid}.json"


def _write(instance: Instance) -> TextIO:
    """Write the file of a server and return it, locked. It gets its name once it is whole."""
    import fcntl

    path = _file_of(instance)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_suffix(".new")
    file = unfinished.open("w", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        json.dump(asdict(instance), file)
        file.flush()
        unfinished.replace(path)
    except OSError:
        file.close()
        raise
    return file


def _read(path: Path) -> Instance | None:
    """Return the server whose file this is. If it does not run any more, remove the file."""
    try:
        import fcntl

        with path.open(encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                content: dict[str, Any] = json.load(file)
                return Instance(**content | {"keys": tuple(content["keys"])})
            path.unlink()
    except (ImportError, OSError, ValueError, TypeError, KeyError):
        pass
    return None
