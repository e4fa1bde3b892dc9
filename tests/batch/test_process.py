"""Batches as processes: killed, interrupted, gone on with, shown on a terminal, very long."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import tracemalloc
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from llm.cli import cli

from tests.batch.echo import OTHER, config, registered
from tests.batch.process import act

ROOT = Path(__file__).parents[2]
SOON = 30  # seconds, of which a process under load takes some to get going


@pytest.fixture(autouse=True)
def asked(config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file to which the models append what they answer."""
    config_file.write_text(yaml.safe_dump(config()))
    path = tmp_path / "asked.txt"
    monkeypatch.setenv("ASKED", str(path))
    return path


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Where the answers go."""
    return tmp_path / "answers.jsonl"


def write_rows(tmp_path: Path, *prompts: str) -> str:
    """A file with those prompts for the small tier; gives its name."""
    rows = [json.dumps({"prompt": prompt, "complexity": 2}) + "\n" for prompt in prompts]
    (tmp_path / "rows.jsonl").write_text("".join(rows))
    return str(tmp_path / "rows.jsonl")


def start(*arguments: str, hold: str = "", **how: Any) -> subprocess.Popen[str]:
    """Start `llm tiered batch …`; prompts with `hold` in them are never answered."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | how
    command = [sys.executable, "-m", "tests.batch.process", "tiered", "batch", *arguments]
    environment = os.environ | {"HOLD": hold}
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes)


def finish(process: subprocess.Popen[str], code: int) -> tuple[str, str]:
    """Wait for its end; gives stdout and stderr."""
    printed = process.communicate(timeout=SOON)
    assert process.returncode == code, printed
    return printed


def go_on(rows: str, output: Path, *arguments: str) -> str:
    """Run the batch to its end, in this process; gives stderr."""
    done = CliRunner().invoke(cli, ["tiered", "batch", rows, "-o", str(output), *arguments])
    assert done.exit_code == 0, done.output
    return done.stderr


def wait_for(path: Path, lines: int, process: subprocess.Popen[str]) -> None:
    """Wait until the file has that many lines."""
    while not path.exists() or path.read_bytes().count(b"\n") < lines:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
            pytest.fail(f"ended too early: {process.communicate()}")


def responses(output: Path) -> list[str]:
    """The responses in the output."""
    return [json.loads(line)["response"] for line in output.read_text().splitlines()]


def journal(output: Path) -> Path:
    """The journal beside the output. Its first line is no answer."""
    return output.with_name(f"{output.name}.journal")


# Killed


def test_killed(tmp_path: Path, output: Path, asked: Path) -> None:
    """A batch that is killed goes on where it was, and asks nothing twice."""
    prompts = ["hold 0", *map(str, range(1, 30)), "hold 30", *map(str, range(31, 40))]
    rows = write_rows(tmp_path, *prompts)
    process = start(rows, "-o", str(output), hold="hold")
    wait_for(journal(output), 1 + 38, process)
    process.kill()
    finish(process, -signal.SIGKILL)
    assert responses(output) == []
    with registered(act):
        errors = go_on(rows, output)
    assert responses(output) == prompts
    assert sorted(asked.read_text().splitlines()) == sorted(prompts)
    assert "40 rows: 2 answered, 0 failed, 38 skipped as done" in errors


def test_killed_often(tmp_path: Path, output: Path, asked: Path) -> None:
    """Whenever it is killed, in the end each row has its one answer, in order."""
    prompts = [f"{number} {'x' * 5_000}" for number in range(1000)]
    rows = write_rows(tmp_path, *prompts)
    for lines in (2, 300):
        process = start(rows, "-o", str(output))
        wait_for(journal(output), lines, process)
        process.kill()
        finish(process, -signal.SIGKILL)
    with registered(act):
        go_on(rows, output)
    assert responses(output) == prompts
    # What was under way as it was killed may be asked again, and nothing else.
    assert len(asked.read_text().splitlines()) <= len(prompts) + 2 * 64


# Interrupted


def test_ctrl_c(tmp_path: Path, output: Path, asked: Path) -> None:
    """Ctrl-C writes what is complete, says how to go on, and ends with 130; it can go on."""
    prompts = ["a", "hold", "b", "c"]
    rows = write_rows(tmp_path, *prompts)
    process = start(rows, "-o", str(output), hold="hold")
    wait_for(journal(output), 1 + 3, process)
    process.send_signal(signal.SIGINT)
    printed, errors = finish(process, 130)
    assert printed == ""
    assert errors.splitlines()[-1] == "Stopped: the same command goes on from here"
    assert "3 rows: 3 answered" in errors
    assert responses(output) == ["a", "b", "c"]
    with registered(act):
        go_on(rows, output)
    assert responses(output) == prompts
    assert sorted(asked.read_text().splitlines()) == sorted(prompts)


def test_ctrl_c_while_stdin_is_silent() -> None:
    """Ctrl-C ends a batch that waits for input as well; what has come before is answered."""
    process = start("-", "--format", "text", "-m", OTHER)
    assert process.stdin
    assert process.stdout
    process.stdin.write("Hello\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["response"] == "Hello"
    process.send_signal(signal.SIGINT)
    process.wait(timeout=SOON)
    printed, errors = finish(process, 130)
    assert printed == ""
    assert "Stopped: with --output it could go on" in errors
    assert "Fatal" not in errors


def test_stdout_closed(tmp_path: Path) -> None:
    """If nobody reads the answers any more, the batch ends without a traceback."""
    rows = write_rows(tmp_path, *map(str, range(2000)))
    process = start(rows)
    assert process.stdout
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    _, errors = finish(process, 1)
    assert "Traceback" not in errors


# On a terminal


def read(terminal: int) -> bytes:
    """All that is written to the terminal, until nobody has it open any more; closes it."""
    shown = b""
    with suppress(OSError):  # how a terminal says that nobody is left
        while data := os.read(terminal, 10_000):
            shown += data
    os.close(terminal)
    return shown


def test_progress(tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal there is a bar with tokens a second, money and time left."""
    rows = write_rows(tmp_path, "a", "b", "oops")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(read, ours)
        with os.fdopen(theirs, "w") as terminal, monkeypatch.context() as patch, registered(act):
            patch.setattr(sys, "stderr", terminal)
            cli(["tiered", "batch", rows, "-o", str(output)], standalone_mode=False)
    shown = reading.result()
    assert b"3/3" in shown
    assert b"tokens/s, $0.0000" in shown
    assert b"3 rows: 3 answered" in shown


def test_no_progress(tmp_path: Path, output: Path) -> None:
    """Elsewhere there is none."""
    with registered():
        errors = go_on(write_rows(tmp_path, "a"), output)
    assert "\r" not in errors
    assert len(errors.splitlines()) == 2


# Very long


def test_memory(tmp_path: Path, output: Path) -> None:
    """At the last of many rows, those before it are no longer in memory."""
    prompts = [f"{row} {'x' * 5_000}" for row in range(1000)]
    in_use = []

    async def measure(model: str, prompt: str) -> str:
        await asyncio.sleep(0)
        if prompt == prompts[200]:
            tracemalloc.start()
        elif prompt == prompts[-1]:
            gc.collect()
            in_use.append(tracemalloc.get_traced_memory()[0])
        return prompt

    with registered(measure) as echoes:
        echoes.asked = echoes.prompts = deque(maxlen=1)  # type: ignore[assignment]  # keeps none
        try:
            go_on(write_rows(tmp_path, *prompts), output, "-m", OTHER, "-n")
        finally:
            tracemalloc.stop()
    assert 0 < in_use[0] < 800 * 5_000 / 2
