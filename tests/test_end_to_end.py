"""A prompt from end to end: command line, tiers, the real embedded model, the log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from llm.cli import cli

from llm_tiered.mlx.engine.engine import ENGINE
from llm_tiered.mlx.weights import embedded
from llm_tiered.paths import config_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EMBEDDED = "mlx/SmolLM2-135M-Instruct"
OPTIONS = ("-o", "complexity", "6", "-o", "max_tokens", "12", "-o", "temperature", "0")
# Both are short: without Metal, the model reads about ten tokens a second.
SYSTEM = ("-s", "Be brief.")
QUESTION = "Capital of France?"


@pytest.fixture(autouse=True)
def _downloaded(smollm2_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the embedded model where it belongs; no other model can be fetched."""
    folder = embedded.folder()
    folder.parent.mkdir(parents=True)
    folder.symlink_to(smollm2_folder)
    config_path().write_text("keep_warm: 0\n")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # The processes here run llm with everything that it imports.
    paths = os.environ["PYTHONPATH"].split(os.pathsep)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths[1:]))
    yield
    ENGINE.close()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run llm in a process of its own, which has to succeed."""
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
    """Without other models and without a key the embedded model answers, and is logged.

    Nothing else is printed but one line of warning. The same holds when the conversation is
    continued in another process: this one.
    """
    first = run("-m", "tiered", *OPTIONS, *SYSTEM, QUESTION)
    second = CliRunner().invoke(cli, ["-c", "-o", "max_tokens", "1", "Why?"])
    assert second.exit_code == 0, second.output
    assert first.stdout == "The capital of France is Paris.\n"
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
