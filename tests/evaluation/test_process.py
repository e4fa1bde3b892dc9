"""Evaluations in processes of their own: killed and interrupted, and taken up again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from llm.cli import cli

from tests.batch.echo import config, registered
from tests.batch.process import act

ROOT = Path(__file__).parents[2]
SOON = 30  # seconds, of which a process under load takes some to get going
PROMPTS = ["a", "b", "c", "hold", "d"]


@pytest.fixture(autouse=True)
def asked(config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file to which the models append what they answer."""
    config_file.write_text(yaml.safe_dump(config()))
    path = tmp_path / "asked.txt"
    monkeypatch.setenv("ANSWERED", str(path))
    return path


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite whose right answers are its prompts."""
    rows = [json.dumps({"prompt": prompt, "exact": prompt}) + "\n" for prompt in PROMPTS]
    path = tmp_path / "suite.jsonl"
    path.write_text("".join(rows))
    return path


def start(suite: Path) -> subprocess.Popen[str]:
    """Start `llm tiered eval …`; the prompt "hold" is never answered."""
    command = [sys.executable, "-m", "tests.batch.process", "tiered", "eval", str(suite), "--json"]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"HOLD": "hold"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for_answers(suite: Path, number: int, process: subprocess.Popen[str]) -> None:
    """Wait until the journal has so many answers; its first line is none."""
    journal = suite.with_suffix(".results.jsonl.journal")
    while not journal.exists() or journal.read_bytes().count(b"\n") < 1 + number:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
            pytest.fail(f"ended too early: {process.communicate()}")


def finish(suite: Path, asked: Path) -> None:
    """Run it to its end, in this process: all rows have their answer, nobody was asked twice."""
    with registered(act):
        done = CliRunner().invoke(cli, ["tiered", "eval", str(suite), "--json"])
    assert done.exit_code == 0, done.output
    tiers = json.loads(done.stdout)["all"]["tiers"]
    assert [(tier["answered"], tier["quality"]) for tier in tiers] == [(5, 1)] * 3
    assert sorted(asked.read_text().splitlines()) == sorted(3 * PROMPTS)


def test_killed(suite: Path, asked: Path) -> None:
    """An evaluation that is killed goes on where it was."""
    process = start(suite)
    # The small tier waits at its fourth row, the medium one behind it; the cloud has four.
    wait_for_answers(suite, 3 + 4, process)
    process.kill()
    process.communicate(timeout=SOON)
    finish(suite, asked)


def test_ctrl_c(suite: Path, asked: Path) -> None:
    """Ctrl-C ends it with 130 and says how to go on; it can."""
    process = start(suite)
    wait_for_answers(suite, 3 + 4, process)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=SOON)
    assert (process.returncode, printed) == (130, "")
    assert errors.splitlines()[-1] == "Stopped: the same command goes on from here"
    assert "Traceback" not in errors
    finish(suite, asked)
