"""The engine behind llm's command line: started by the first prompt, and used by later ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from llm_tiered.mlx.process import client
from tests.mlx.process.engines import answer, llm
from tests.tiny_models import build

if TYPE_CHECKING:
    from pathlib import Path

NAME = "mlx/shared"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model."""
    return build("qwen2", tmp_path_factory.mktemp("shared"), layers=1)


@pytest.mark.usefixtures("no_engine_left")
def test_second_prompt_finds_the_model_loaded(folder: Path, config_file: Path) -> None:
    """The first prompt starts an engine, which answers the second one and leaves when asked."""
    models = [{"id": NAME, "path": str(folder)}]
    config_file.write_text(json.dumps({"models": models, "keep_warm": "1m"}))
    prompt = ("-m", NAME, "-o", "max_tokens", "3", "-o", "temperature", "0", "Hello")
    first = answer(llm(*prompt))
    engine = client.running()
    assert engine
    assert list(engine.resident()) == [NAME]
    assert answer(llm(*prompt)) == first
    again = client.running()
    assert again
    assert again.status["instance"] == engine.status["instance"]
    assert again.status["models"][0]["last_used"] > engine.status["models"][0]["last_used"]
    assert client.leave(again)
