"""Datasette as a separate process that serves on loopback."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATASETTE = (sys.executable, "-m", "datasette")
LLM = (sys.executable, "-m", "llm")

_RUNNING = re.compile(r"running on (http://\S+)")


def free_port() -> int:
    """Return a port that is not in use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(home: Path, *command: str) -> Iterator[str]:
    """Start a server with this user directory of llm; return its address once it is running."""
    environment = os.environ | {"LLM_USER_PATH": str(home), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            output = []
            for line in process.stdout or ():
                output.append(line)
                running = _RUNNING.search(line)
                if running:
                    break
            else:
                raise AssertionError("".join(output))
            yield running[1]
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)
