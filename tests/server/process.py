"""`llm tiered serve` with echo models in a process of its own: `python -m tests.server.process`."""

from __future__ import annotations

import asyncio
import signal
import sys

from tests.batch.echo import SMALL, registered


async def act(model: str, prompt: str) -> str:
    """Answer with the prompt, but never one that has to wait; the small model may fail."""
    if "wait" in prompt:
        await asyncio.Event().wait()
    if "fail" in prompt and model == SMALL:
        raise ValueError(f"no answer to {prompt}")
    return prompt


if __name__ == "__main__":
    from llm.cli import cli

    # Ctrl-C works even if the parent process ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with registered(act):
        cli(sys.argv[1:])
