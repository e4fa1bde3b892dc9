"""The engine behind llm's command line: started by the first prompt, and used by later ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from llm_tiered.mlx.process import client
from tests.mlx.process.engines import output, run_llm

if TYPE_CHECKING:
    from pathlib import Path

NAME = "mlx/shared"


@pytest.mark.usefixtures("no_engine_left", "log")
def test_second_prompt_finds_the_model_loaded(folder: Path, config_file: Path) -> None:
    """The first prompts start one engine, which answers the next one and leaves when asked."""
    models = [{"id": NAME, "path": str(folder)}]
    config_file.write_text(json.dumps({"models": models, "keep_warm": "1m"}))
    prompt = ("-m", NAME, "-o", "max_tokens", "3", "-o", "temperature", "0", "-n", "Hello")
    first, second = [output(each) for each in [run_llm(*prompt), run_llm(*prompt)]]
    engine = client.running()
    assert engine
    assert list(engine.resident()) == [NAME]
    assert first == second == output(run_llm(*prompt))
    again = client.running()
    assert again
    assert again.status["instance"] == engine.status["instance"]
    assert again.status["models"][0]["last_used"] > engine.status["models"][0]["last_used"]
    assert client.leave(again)
