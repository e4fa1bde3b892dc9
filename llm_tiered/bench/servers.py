"""Servers to measure, each a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import TieredError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Seconds for a server to start, and to end.
START_WITHIN, END_WITHIN = 120.0, 20.0


@dataclass(frozen=True)
class Served:
    """A running server: its address, and the name that it has for the model to measure."""

    address: tuple[str, int]
    model: str


@contextmanager
def tiered_serve(model_id: str) -> Iterator[Served]:
    """Run `llm tiered serve` with the present user directory."""
    with _running("llm", "tiered", "serve") as address:
        yield Served(address, model_id)


@contextmanager
def mlx_lm_server(folder: Path, adapter: Path | None = None) -> Iterator[Served]:
    """Run `mlx_lm.server` with the model in a folder."""
    arguments = ["--model", str(folder), "--log-level", "WARNING"]
    if adapter:
        arguments += ["--adapter-path", str(adapter)]
    with _running("mlx_lm", "server", *arguments) as address:
        yield Served(address, "default_model")


@contextmanager
def paced_server() -> Iterator[Served]:
    """Run a server without a model, which answers at the pace that is asked for."""
    with _running("llm_tiered.bench.pacing") as address:
        yield Served(address, "paced")


@contextmanager
def _running(*arguments: str) -> Iterator[tuple[str, int]]:
    """Run a Python module with these arguments and a free port. Raises TieredError."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = probe.getsockname()
    command = [sys.executable, "-m", *arguments, "--port", str(address[1])]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603 - this Python, and our own arguments
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
        try:
            if not _listens(process, address):
                errors.seek(0)
                last_line = errors.read().decode("utf-8", "replace").strip().splitlines()[-1:]
                name = " ".join(each for each in arguments[:3] if not each.startswith("-"))
                raise TieredError(f"{name} did not start: {' '.join(last_line)}")
            yield address
        finally:
            _end(process)


def _listens(process: subprocess.Popen[bytes], address: tuple[str, int]) -> bool:
    """Wait until a server accepts connections; return whether it does."""
    end = time.monotonic() + START_WITHIN
    while process.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection(address, timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
