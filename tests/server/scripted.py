"""`llm tiered serve` with a small tier that follows the user's words.

`python -m tests.server.scripted tiered serve`
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llm
from llm.parts import StreamEvent
from llm.plugins import pm

from llm_tiered.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.stand_in import Action


def act(prompt: llm.Prompt, response: Any) -> Generator[Action, None, None]:
    """Do what the user's last message says."""
    if prompt.tool_results:
        yield f"the results are {[result.output for result in prompt.tool_results]}"
    elif prompt.prompt == "call":
        yield llm.ToolCall("add", {"a": 1}, "call_1")
    elif prompt.prompt == "call two":
        yield "Let me see"
        yield llm.ToolCall("add", {"a": 1}, "call_1")
        yield llm.ToolCall("add", {"a": 2}, "call_2")
    elif prompt.prompt == "dog":
        yield '{"name": "Rex"}'
    elif prompt.prompt == "think":
        yield StreamEvent(type="reasoning", chunk="hm")
        yield "small answer"
    elif prompt.prompt == "history":
        yield " ".join(message.role for message in prompt.messages)
    else:
        yield "small "
        yield EngineError("out of memory") if prompt.prompt == "break" else "answer"
    response.set_usage(input=5, output=2)


if __name__ == "__main__":
    os.environ["LLM_USER_PATH"] = tempfile.mkdtemp()
    from llm.cli import cli

    from llm_tiered.paths import config_path
    from tests.toys import Toys

    config_path().parent.mkdir(parents=True)
    toys = Toys(Path(config_path()))
    toys.configure(log_api=True)
    toys.small.tools = toys.small.schemas = True
    vars(toys.small)["script"] = act
    pm.register(toys, name="toys")
    cli(sys.argv[1:])
