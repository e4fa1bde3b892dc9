"""The engine behind llm's command line: started by the first prompt, and used by later ones."""

from __future__ import annotations

import json
import os
import signal
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import pytest

from llm_tiered.mlx.process import client
from tests.mlx.process.engines import engine_on_a_thread, output, run_llm, wait_for

if TYPE_CHECKING:
    from pathlib import Path

NAME = "mlx/shared"
PROMPT = ("-m", NAME, "-o", "max_tokens", "3", "-o", "temperature", "0", "-n", "Hello")


@pytest.fixture(autouse=True)
def _configured(folder: Path, config_file: Path, log: Path) -> None:
    """Give llm a config with a local model, and a log, which processes can't create together."""
    models = [{"id": NAME, "path": str(folder)}]
    config_file.write_text(json.dumps({"models": models, "keep_warm": "1m"}))


def running() -> client.RunningEngine:
    """The engine that runs."""
    engine = client.running()
    assert engine
    return engine


def has_running(number: int) -> bool:
    """Whether the engine is giving that many answers."""
    return bool(running().status["running"] == number)


@pytest.mark.usefixtures("no_engine_left")
def test_first_prompt_starts_the_engine() -> None:
    """The first prompts start one engine, which answers the next one; if killed, another starts."""
    first, second = [output(each) for each in [run_llm(*PROMPT), run_llm(*PROMPT)]]
    engine = running()
    assert list(engine.resident()) == [NAME]
    assert first == second == output(run_llm(*PROMPT))
    again = running()
    assert again.status["instance"] == engine.status["instance"]
    assert again.status["models"][0]["last_used"] > engine.status["models"][0]["last_used"]
    os.kill(engine.status["pid"], signal.SIGKILL)
    assert output(run_llm(*PROMPT)) == first
    assert running().status["instance"] != engine.status["instance"]


def test_caller_that_leaves_cancels_its_answer() -> None:
    """Ctrl-C, kill -9 and a closed pipe end the answer in the engine."""
    endless = ("-m", NAME, "-o", "max_tokens", "100000", "-n", "Hello")
    with engine_on_a_thread(), ExitStack() as stack:
        callers = [run_llm(*endless) for _ in range(3)]
        for caller in callers:
            stack.enter_context(caller)
            stack.callback(caller.kill)
        wait_for(partial(has_running, 3))
        callers[0].send_signal(signal.SIGINT)
        wait_for(partial(has_running, 2))
        callers[1].kill()
        wait_for(partial(has_running, 1))
        assert callers[2].stdout
        callers[2].stdout.close()
        wait_for(partial(has_running, 0))
