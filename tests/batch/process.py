"""`llm …` with the echoes, in a process of its own: `python -m tests.batch.process`.

Each prompt is appended to the file ASKED as it is answered. A prompt with HOLD in it is never.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from llm.cli import cli

from tests.batch.echo import registered


async def act(model: str, prompt: str) -> str:
    """Answer with the prompt, unless it is to be held."""
    hold = os.environ.get("HOLD")
    if hold and hold in prompt:
        await asyncio.Event().wait()
    await asyncio.sleep(0)
    with Path(os.environ["ASKED"]).open("a", encoding="utf-8") as file:
        file.write(prompt + "\n")
    return prompt


if __name__ == "__main__":
    # Ctrl-C works even if whoever runs the tests ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with registered(act):
        cli(sys.argv[1:])
