"""`llm …` with echo models in a process of its own: `python -m tests.batch.process`.

Each prompt is appended to the file $ANSWERED when it is answered. A prompt that contains $HOLD is
never answered, and one that contains $FAIL fails.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from tests.batch.echo import registered


async def act(model: str, prompt: str) -> str:
    """Answer with the prompt and note it, fail, or wait forever."""
    hold = os.environ.get("HOLD")
    if hold and hold in prompt:
        await asyncio.Event().wait()
    await asyncio.sleep(0)
    fail = os.environ.get("FAIL")
    if fail and fail in prompt:
        raise ZeroDivisionError(prompt)
    with Path(os.environ["ANSWERED"]).open("a", encoding="utf-8") as file:
        file.write(prompt + "\n")
    return prompt


if __name__ == "__main__":
    from llm.cli import cli

    # Ctrl-C works even if the parent process ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with registered(act):
        cli(sys.argv[1:])
