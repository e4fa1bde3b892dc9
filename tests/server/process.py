"""`llm tiered serve` with echo models in a process of its own: `python -m tests.server.process`."""

from __future__ import annotations

import asyncio
import signal
import sys

from tests.batch.echo import registered


async def act(model: str, prompt: str) -> str:
    """Answer with the prompt, but never one that has to wait."""
    if "wait" in prompt:
        await asyncio.Event().wait()
    return prompt


if __name__ == "__main__":
    from llm.cli import cli

    # Ctrl-C works even if the parent process ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with registered(act):
        cli(sys.argv[1:])
