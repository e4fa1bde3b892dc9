"""Evaluations that are killed or interrupted, and resumed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from click.testing import CliRunner
from llm.cli import cli

from tests.batch.echo import config, registered
from tests.batch.process import act

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
TIMEOUT = 30  # seconds; a process on a busy machine needs some of them to start
PROMPTS = ["a", "b", "c", "hold", "d"]

# The small tier waits at its fourth row, the medium one behind it; the cloud has answered four.
ANSWERS_BEFORE_HOLD = 3 + 4


@pytest.fixture(autouse=True)
def answered(config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file to which the models append each prompt that they answer."""
    config_file.write_text(yaml.safe_dump(config()))
    path = tmp_path / "answered.txt"
    monkeypatch.setenv("ANSWERED", str(path))
    return path


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite in which each prompt is its own right answer."""
    rows = [json.dumps({"prompt": prompt, "exact": prompt}) + "\n" for prompt in PROMPTS]
    path = tmp_path / "suite.jsonl"
    path.write_text("".join(rows))
    return path


@pytest.fixture
def _ctrl_c() -> Iterator[None]:
    """Let this process receive Ctrl-C, and restore what an evaluation changes."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def answers_in_journal(suite: Path) -> int:
    """The number of answers in the journal; its first line is a header."""
    journal = suite.with_suffix(".results.jsonl.journal")
    return journal.read_bytes().count(b"\n") - 1 if journal.exists() else 0


def resume(suite: Path, answered: Path) -> None:
    """Run the suite to its end: all rows have their answers, and none was answered twice."""
    with registered(act):
        result = CliRunner().invoke(cli, ["tiered", "eval", str(suite), "--json"])
    assert result.exit_code == 0, result.output
    tiers = json.loads(result.stdout)["all"]["tiers"]
    assert [(tier["answered"], tier["quality"]) for tier in tiers] == [(5, 1)] * 3
    assert sorted(answered.read_text().splitlines()) == sorted(3 * PROMPTS)


def test_killed(suite: Path, answered: Path) -> None:
    """A killed evaluation is resumed where it stopped."""
    command = [sys.executable, "-m", "tests.batch.process", "tiered", "eval", str(suite), "--json"]
    environment = os.environ | {"HOLD": "hold"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe) as process:
        while answers_in_journal(suite) < ANSWERS_BEFORE_HOLD:
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
                pytest.fail(f"ended too early: {process.communicate()}")
        process.kill()
        process.communicate(timeout=TIMEOUT)
    resume(suite, answered)


@pytest.mark.usefixtures("_ctrl_c")
def test_ctrl_c(suite: Path, answered: Path) -> None:
    """Ctrl-C says how to resume and exits with 130; resuming works."""
    pressed = False

    async def press_ctrl_c(model: str, prompt: str) -> str:
        nonlocal pressed
        if prompt != "hold":
            return await act(model, prompt)
        if not pressed:
            pressed = True
            while answers_in_journal(suite) < ANSWERS_BEFORE_HOLD:
                await asyncio.sleep(0)
            signal.raise_signal(signal.SIGINT)
        await asyncio.Event().wait()
        return prompt

    with registered(press_ctrl_c):
        result = CliRunner().invoke(cli, ["tiered", "eval", str(suite), "--json"])
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.splitlines()[-1] == "Stopped: run the same command again to continue"
    assert "Traceback" not in result.stderr
    resume(suite, answered)
