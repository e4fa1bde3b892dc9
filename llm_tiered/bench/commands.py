"""Commands of llm as a user types them, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from ..errors import TieredError

if TYPE_CHECKING:
    from pathlib import Path


def run(home: Path, *arguments: str) -> float:
    """Run llm with a user directory; return the seconds that it took. Raises TieredError."""
    started = time.perf_counter()
    done = subprocess.run(  # noqa: S603 - this Python, and our own arguments
        [sys.executable, "-m", "llm", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"LLM_USER_PATH": str(home), "HF_HUB_OFFLINE": "1"},
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        last_line = done.stderr.strip().splitlines()[-1:]
        raise TieredError(f"llm {arguments[0]} fails: {' '.join(last_line)}")
    return seconds


def ask(home: Path, model: str, prompt: str, *, max_tokens: int, again: bool = False) -> float:
    """Send a prompt, `again` in the latest conversation; return the seconds that it took.

    Raises TieredError.
    """
    options = ("-o", "max_tokens", str(max_tokens), "-o", "temperature", "0")
    return run(home, "prompt", *(["-c"] if again else []), "-m", model, *options, prompt)
