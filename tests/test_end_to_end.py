"""The whole way of a prompt: command line, tiers, the real embedded model, the log."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from llm.cli import cli

from llm_tiered.mlx.engine.engine import ENGINE
from llm_tiered.mlx.weights import embedded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EMBEDDED = "mlx/SmolLM2-135M-Instruct"
OPTIONS = ("-o", "complexity", "6", "-o", "max_tokens", "12", "-o", "temperature", "0")
# Shorter than the model's own: without Metal, it reads about eight tokens a second.
SYSTEM = ("-s", "Be brief.")
QUESTION = "What is the capital of France?"


@pytest.fixture(autouse=True)
def _downloaded(smollm2_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the embedded model be there, and nothing else be had."""
    folder = embedded.folder()
    folder.parent.mkdir(parents=True)
    folder.symlink_to(smollm2_folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    yield
    ENGINE.close()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run llm in a process of its own, and see that it succeeds."""
    done = subprocess.run(
        [sys.executable, "-m", "llm", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_prompt_falls_back_to_the_embedded_model(caplog: pytest.LogCaptureFixture) -> None:
    """Without models and key the embedded one answers, in one line of warning, and is logged.

    So it is when the conversation goes on in another process: this one.
    """
    first = run("-m", "tiered", *OPTIONS, *SYSTEM, QUESTION)
    second = CliRunner().invoke(cli, ["-c", "-o", "max_tokens", "1", "Why?"])
    assert second.exit_code == 0, second.output
    assert "Paris" in first.stdout
    assert second.stdout.strip()
    for warnings in (first.stderr.splitlines(), caplog.messages):
        [warning] = warnings
        assert warning.startswith(f"{EMBEDDED} answers for medium.")

    turns = json.loads(CliRunner().invoke(cli, ["logs", "--json"]).stdout)
    assert [turn["response"] + "\n" for turn in turns] == [first.stdout, second.stdout]
    assert {(turn["model"], turn["resolved_model"]) for turn in turns} == {("tiered", EMBEDDED)}
    assert len({turn["conversation_id"] for turn in turns}) == 1
    assert [turn["prompt"] for turn in turns] == [QUESTION, "Why?"]
    records = [turn["response_json"]["tiered"] for turn in turns]
    assert [(record["tier"], record["source"]) for record in records] == [
        ("medium", "option"),
        ("medium", "conversation"),
    ]
    assert [(attempt["tier"], attempt["outcome"]) for attempt in records[0]["attempts"]] == [
        ("medium", "skipped"),
        ("small", "skipped"),
        ("cloud", "skipped"),
        ("embedded", "ok"),
    ]
    assert all(turn["input_tokens"] for turn in turns)
    assert turns[1]["output_tokens"] == 1
    assert turns[0]["response_json"]["response"]["finish_reason"] == "stop"
