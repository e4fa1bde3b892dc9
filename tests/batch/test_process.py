"""Batches that are killed, interrupted, resumed, shown on a terminal, and very long."""

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
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from click.testing import CliRunner
from llm.cli import cli

from tests.batch.echo import OTHER, config, registered
from tests.batch.process import act

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
TIMEOUT = 30  # seconds; a process on a busy machine needs some of them to start


@pytest.fixture(autouse=True)
def answered(config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file to which the models append each prompt that they answer."""
    config_file.write_text(yaml.safe_dump(config()))
    path = tmp_path / "answered.txt"
    monkeypatch.setenv("ANSWERED", str(path))
    return path


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The path of the output."""
    return tmp_path / "answers.jsonl"


@pytest.fixture
def _ctrl_c() -> Iterator[None]:
    """Let this process receive Ctrl-C, which a batch handles once, and restore what it changes."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def write_rows(tmp_path: Path, *prompts: str) -> str:
    """Write a file with those prompts for the small tier; returns its name."""
    rows = [json.dumps({"prompt": prompt, "complexity": 2}) + "\n" for prompt in prompts]
    (tmp_path / "rows.jsonl").write_text("".join(rows))
    return str(tmp_path / "rows.jsonl")


def start(*arguments: str, hold: str = "", fail: str = "", **options: Any) -> subprocess.Popen[str]:
    """Start `llm tiered batch …`; prompts with `hold` get no answer, those with `fail` an error."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-m", "tests.batch.process", "tiered", "batch", *arguments]
    environment = os.environ | {"HOLD": hold, "FAIL": fail}
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes | options)


def finish(process: subprocess.Popen[str], code: int) -> tuple[str, str]:
    """Wait for the end of a process; returns its stdout and stderr."""
    printed = process.communicate(timeout=TIMEOUT)
    assert process.returncode == code, printed
    return printed


def resume(rows: str, output: Path, *arguments: str) -> str:
    """Run the batch to its end, in this process; returns stderr."""
    result = CliRunner().invoke(cli, ["tiered", "batch", rows, "-o", str(output), *arguments])
    assert result.exit_code == 0, result.output
    return result.stderr


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
    """The journal beside the output; its first line is a header."""
    return output.with_name(f"{output.name}.journal")


# Killed


def test_killed(tmp_path: Path, output: Path, answered: Path) -> None:
    """A killed batch is resumed where it stopped, and no row is answered twice."""
    prompts = ["hold 0", *map(str, range(1, 30)), "hold 30", *map(str, range(31, 40))]
    rows = write_rows(tmp_path, *prompts)
    process = start(rows, "-o", str(output), hold="hold")
    wait_for(journal(output), 1 + 38, process)
    process.kill()
    finish(process, -signal.SIGKILL)
    assert responses(output) == []
    with registered(act):
        errors = resume(rows, output)
    assert responses(output) == prompts
    assert sorted(answered.read_text().splitlines()) == sorted(prompts)
    assert "40 rows: 2 answered, 0 failed, 38 skipped as done" in errors


def test_killed_often(tmp_path: Path, output: Path, answered: Path) -> None:
    """Whenever a batch is killed, each row has one answer in the end, in order."""
    prompts = [f"{number} {'x' * 5_000}" for number in range(500)]
    rows = write_rows(tmp_path, *prompts)
    for lines in (2, 200):
        process = start(rows, "-o", str(output))
        wait_for(journal(output), lines, process)
        process.kill()
        finish(process, -signal.SIGKILL)
    with registered(act):
        resume(rows, output)
    assert responses(output) == prompts
    # Only requests that were running at the time of a kill may be sent again.
    assert len(answered.read_text().splitlines()) <= len(prompts) + 2 * 64


# Interrupted


@pytest.mark.usefixtures("_ctrl_c")
def test_ctrl_c(tmp_path: Path, output: Path, answered: Path) -> None:
    """Ctrl-C writes complete answers, says how to resume and exits with 130; resuming works."""
    prompts = ["a", "hold", "b", "c"]
    rows = write_rows(tmp_path, *prompts)

    async def press_ctrl_c(model: str, prompt: str) -> str:
        if prompt != "hold":
            return await act(model, prompt)
        while journal(output).read_bytes().count(b"\n") < 1 + 3:
            await asyncio.sleep(0)
        signal.raise_signal(signal.SIGINT)
        await asyncio.Event().wait()
        return prompt

    with registered(press_ctrl_c):
        result = CliRunner().invoke(cli, ["tiered", "batch", rows, "-o", str(output)])
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.splitlines()[-1] == "Stopped: run the same command again to continue"
    assert "3 rows: 3 answered" in result.stderr
    assert responses(output) == ["a", "b", "c"]
    with registered(act):
        resume(rows, output)
    assert responses(output) == prompts
    assert sorted(answered.read_text().splitlines()) == sorted(prompts)


def test_ctrl_c_while_stdin_is_silent() -> None:
    """Ctrl-C also ends a batch that waits for input; earlier rows are answered."""
    process = start("-", "--format", "text", "-m", OTHER)
    assert process.stdin
    assert process.stdout
    process.stdin.write("Hello\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["response"] == "Hello"
    process.send_signal(signal.SIGINT)
    process.wait(timeout=TIMEOUT)
    printed, errors = finish(process, 130)
    assert printed == ""
    assert "Stopped: only a batch with --output can be continued" in errors
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


def test_stderr_closed(tmp_path: Path, output: Path) -> None:
    """Without anybody who reads the failures, all rows are answered, and none is in the way."""
    rows = write_rows(tmp_path, *("oops" if row % 2 else "a" for row in range(2200)))
    process = start(rows, "-o", str(output), "-m", OTHER, fail="oops")
    assert process.stderr
    process.stderr.readline()
    process.stderr.close()
    process.stderr = None
    finish(process, 1)
    answers = [json.loads(line) for line in output.read_text().splitlines()]
    assert [answer.get("response") for answer in answers] == ["a", None] * 1100


def test_no_stderr(tmp_path: Path, output: Path) -> None:
    """Without standard error, the answers are written, and nothing else on standard output."""
    rows = write_rows(tmp_path, "a", "oops", "b")
    shell = f"{sys.executable} -m tests.batch.process tiered batch {rows} -m {OTHER} 2>&-"
    environment = os.environ | {"FAIL": "oops"}
    done = subprocess.run(
        shell, shell=True, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=False
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer.get("response") for answer in answers] == ["a", None, "b"]
    assert done.returncode == 1


# On a terminal


def read(terminal: int) -> bytes:
    """Read what is written to the terminal until nobody has it open any more; close it."""
    shown = b""
    with suppress(OSError):  # the end of a terminal is an error
        while data := os.read(terminal, 10_000):
            shown += data
    os.close(terminal)
    return shown


def test_progress(tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal there is a bar with tokens per second, dollars and the time left."""
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
    """Without a terminal there is no bar."""
    with registered():
        errors = resume(write_rows(tmp_path, "a"), output)
    assert "\r" not in errors
    assert len(errors.splitlines()) == 2


# Very long


def test_memory(tmp_path: Path, output: Path) -> None:
    """At the last of many rows, earlier rows are no longer in memory."""
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
        echoes.requests = echoes.prompts = deque(maxlen=1)  # type: ignore[assignment]  # keeps one
        try:
            resume(write_rows(tmp_path, *prompts), output, "-m", OTHER, "-n")
        finally:
            tracemalloc.stop()
    assert 0 < in_use[0] < 800 * 5_000 / 2
