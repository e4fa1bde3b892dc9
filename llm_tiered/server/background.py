"""A server in the background: `llm tiered serve --background` starts it, and this module is it."""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import socket
import subprocess
import sys
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

from ..config.settings import load_settings
from ..errors import RequestError, TieredError
from ..paths import servers_folder
from .access import Key, access_rules
from .instances import Instance, log_file, machine, running
from .process import base_url, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Seconds that a server has until it answers. A slow disk and many plugins of llm take a while.
READY_WITHIN = 60.0

# Variables with paths, which may be relative to the folder that the server leaves.
_PATHS = (
    *("LLM_USER_PATH", "PYTHONPATH", "HF_HOME", "HF_HUB_CACHE", "SSL_CERT_FILE", "SSL_CERT_DIR"),
)


def current() -> Instance | None:
    """Return the server that runs in the background, also as a service, or None."""
    return next((each for each in running() if each.kind != "terminal"), None)


@contextmanager
def alone() -> Iterator[None]:
    """Wait until no other process starts a server, and keep others from it for the block.

    Raises RequestError where nothing runs in the background, TieredError if the folder can't be
    written to.
    """
    try:
        import fcntl
    except ImportError:
        raise RequestError("--background needs macOS or Linux") from None
    path = servers_folder() / f"{machine()}.lock"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = path.open("w")
    except OSError as error:
        raise TieredError(f"{path} can't be written: {error.strerror}") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def start(listener: socket.socket, host: str, keys: tuple[Key, ...]) -> None:
    """Start a server that listens on this socket, and return once it answers.

    The socket is the server's from then on. Raises TieredError with what the server said if it
    ended instead.
    """
    path = log_file()
    try:
        log = _open_log(path)
    except OSError as error:
        raise TieredError(f"{path} can't be written: {error.strerror}") from None
    with log:
        before = log.seek(0, os.SEEK_END)
        url = base_url(listener)
        with listener:
            server = _spawn(listener, log, host, keys)
        # Its socket listens already, so that one request waits until it is ready.
        if answers(url, READY_WITHIN):
            # It outlives this process, so it is not waited for.
            server.returncode = 0
            return
        # One that has closed its socket is about to end.
        with suppress(subprocess.TimeoutExpired):
            server.wait(min(1, READY_WITHIN))
        silence = "it ended without a word" if server.poll() is not None else "it does not answer"
        server.kill()
        server.wait()
        log.seek(before)
        said = log.read().decode("utf-8", "replace").strip().splitlines()
    last = said[-1].removeprefix("Error: ") if said else silence
    raise TieredError(f"the server did not start: {last}", fix=f"its output is in {path}")


def answers(url: str, within: float) -> bool:
    """Return whether the server with this base URL answers within that many seconds."""
    parts = urlsplit(url)
    address = parts.hostname or ""
    if ipaddress.ip_address(address.partition("%")[0]).is_unspecified:
        address = "::1" if ":" in address else "127.0.0.1"
    with closing(http.client.HTTPConnection(address, parts.port, timeout=within)) as connection:
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False


def main() -> None:
    """Serve, as the JSON on stdin says."""
    task = json.load(sys.stdin)
    try:
        load_settings()
        keys = tuple(Key(**key) for key in task["keys"])
        with socket.socket(fileno=task["listener"]) as listener:
            listener.set_inheritable(False)
            access = access_rules(task["host"], listener.getsockname()[0], keys)
            serve(listener, access, kind="background")
    except TieredError as error:
        sys.exit(f"Error: {error}")


def _spawn(
    listener: socket.socket, log: BinaryIO, host: str, keys: tuple[Key, ...]
) -> subprocess.Popen[bytes]:
    server = subprocess.Popen(  # noqa: S603 - our own Python
        [sys.executable, "-m", __name__],
        cwd="/",
        env=_environment(),
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        pass_fds=[listener.fileno()],
        start_new_session=True,
    )
    # Not in its arguments: all users of the machine can read those.
    task = {"listener": listener.fileno(), "host": host, "keys": [asdict(key) for key in keys]}
    if server.stdin:
        with suppress(BrokenPipeError), server.stdin as pipe:
            pipe.write(json.dumps(task).encode())
    return server


def _environment() -> dict[str, str]:
    """The variables of this process, without paths that are relative to its folder."""
    variables = dict(os.environ)
    for name in _PATHS:
        if variables.get(name):
            parts = variables[name].split(os.pathsep)
            variables[name] = os.pathsep.join(os.path.abspath(part) for part in parts)
    return variables


def _open_log(path: Path) -> BinaryIO:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    return os.fdopen(descriptor, "r+b", buffering=0)


if __name__ == "__main__":
    main()
