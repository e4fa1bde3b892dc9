"""A process ends well whatever MLX is doing in it: by Ctrl-C, or by itself."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from llm.cli import cli

from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Process = subprocess.Popen[str]
    Start = Callable[..., Process]

NAME = "mlx/interrupt"
FOREVER = 100_000  # tokens: minutes of work
SOON = 30  # seconds; most of it is for processes to get going on a busy machine
BLOCKED = "generation_config.json"

# `python -m llm`, where Ctrl-C works even if whoever runs the tests ignores it.
LLM = """\
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("llm", run_name="__main__", alter_sys=True)
"""

SUBMIT = """\
import sys
from pathlib import Path
from queue import SimpleQueue
from llm_tiered.mlx.engine.engine import ENGINE
from llm_tiered.mlx.engine.requests import GenerationRequest, Prefill, CancelToken
events = SimpleQueue()
chat = ({"role": "user", "content": "Hello"},)
request = GenerationRequest("mlx/interrupt", Path(sys.argv[1]), 10**9, chat, max_tokens=100_000)
"""

AFTER_GENERATING = """\
import llm
print(llm.get_model("mlx/interrupt").prompt("Hello", max_tokens=3).text())
"""
WHILE_GENERATING = f"""{SUBMIT}
for _ in range(3):
    ENGINE.submit(request, events.put, CancelToken())
while isinstance(event := events.get(), Prefill):
    pass
print(event.text)
"""
WHILE_LOADING = f"""{SUBMIT}
ENGINE.submit(request, events.put, CancelToken())
sys.stdin.read()
print("bye")
"""
# The timer starts when the process has begun to end, and before it waits for the worker.
INTERRUPTED_WHILE_ENDING = f"""{WHILE_LOADING}
import atexit, signal
signal.signal(signal.SIGALRM, signal.default_int_handler)
atexit.register(signal.setitimer, signal.ITIMER_REAL, 1)
"""


IMPATIENT = """\
from llm_tiered.mlx.engine import engine
engine.SHUTDOWN_TIMEOUT = 0.1
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a model that can talk for minutes; read only."""
    return build("qwen2", tmp_path_factory.mktemp("interrupt"), context=2 * FOREVER)


@pytest.fixture
def folder(model: Path, tmp_path: Path, config_file: Path) -> Path:
    """Give a copy of it, which the config names."""
    folder = shutil.copytree(model, tmp_path / "tiny")
    config_file.write_text(json.dumps({"models": [{"id": NAME, "path": str(folder)}]}))
    return folder


@pytest.fixture
def start() -> Iterator[Start]:
    """Give what runs Python code in a process of its own, which does not outlive the test."""
    started: list[Process] = []

    def start(code: str, *arguments: str, stdin: int = subprocess.DEVNULL) -> Process:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        with process:
            pass  # waits for it, and closes its pipes


def prompt(*options: str) -> tuple[str, ...]:
    """What to start to ask for a long answer on llm's command line."""
    return (LLM, "prompt", "-m", NAME, "-o", "max_tokens", str(FOREVER), *options, "Hello")


def check_aborted(process: Process) -> None:
    """See that the process goes soon after Ctrl-C, and without a traceback."""
    _, errors = process.communicate(timeout=SOON)
    assert process.returncode == 1
    assert errors.strip() == "Aborted!"


def check_next_answer() -> None:
    """See that the model answers from the command line, and that only this answer is logged."""
    answered = CliRunner().invoke(cli, ["-m", NAME, "-o", "max_tokens", "3", "Hello"])
    assert answered.exit_code == 0
    logged = json.loads(CliRunner().invoke(cli, ["logs", "--json"]).stdout)
    assert [turn["response"] + "\n" for turn in logged] == [answered.stdout]


def block(folder: Path) -> Path:
    """Put a pipe in the place of a file that loading reads, so that it waits there."""
    pipe = folder / BLOCKED
    pipe.unlink()
    os.mkfifo(pipe)
    return pipe


def wait_until_read(pipe: Path, process: Process) -> int:
    """Wait until the process reads from the pipe; gives the pipe's other end."""
    while process.poll() is None:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        with suppress(subprocess.TimeoutExpired):  # nobody reads yet
            process.wait(0.02)
    pytest.fail(f"it ended before it read {pipe.name}: {process.communicate()}")


def unblock(pipe: Path, end: int) -> None:
    """Let loading go on, with an empty file."""
    pipe.unlink()
    pipe.write_text("{}")
    with suppress(BrokenPipeError):  # the process need not wait for it
        os.write(end, b"{}")
    os.close(end)


def test_ctrl_c_while_generating(start: Start, folder: Path) -> None:
    """Ctrl-C in the middle of an answer ends it, unlogged; the next one works and is logged."""
    process = start(*prompt())
    assert process.stdout
    assert process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    check_aborted(process)
    check_next_answer()


def test_ctrl_c_while_generating_async(start: Start, folder: Path) -> None:
    """Ctrl-C ends the answer of an async model too."""
    process = start(*prompt("--async"))
    assert process.stdout
    assert process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    check_aborted(process)


def test_ctrl_c_while_loading(start: Start, folder: Path) -> None:
    """Ctrl-C while a model is loaded ends the process; the next one loads it, and is logged."""
    pipe = block(folder)
    process = start(*prompt())
    end = wait_until_read(pipe, process)
    process.send_signal(signal.SIGINT)
    unblock(pipe, end)
    check_aborted(process)
    check_next_answer()


def test_ctrl_c_while_ending(start: Start, folder: Path) -> None:
    """Whoever presses Ctrl-C while a process ends is not shown a traceback."""
    pipe = block(folder)
    process = start(INTERRUPTED_WHILE_ENDING, str(folder), stdin=subprocess.PIPE)
    end = wait_until_read(pipe, process)
    _, errors = process.communicate(timeout=SOON)
    os.close(end)
    assert errors == ""


@pytest.mark.parametrize(
    "code",
    [AFTER_GENERATING, WHILE_GENERATING],
    ids=["after generating", "while generating"],
)
def test_process_ends(code: str, start: Start, folder: Path) -> None:
    """A process that is done ends with code 0 and nothing on stderr, whoever still waits in it."""
    process = start(code, str(folder))
    printed, errors = process.communicate(timeout=SOON)
    assert (process.returncode, errors) == (0, "")
    assert printed.strip()


def test_process_ends_while_loading(start: Start, folder: Path) -> None:
    """A process that is done waits for nothing that takes long, not even for a disk that hangs."""
    pipe = block(folder)
    process = start(IMPATIENT + WHILE_LOADING, str(folder), stdin=subprocess.PIPE)
    end = wait_until_read(pipe, process)
    printed, errors = process.communicate(timeout=SOON)
    os.close(end)
    assert (process.returncode, printed, errors) == (0, "bye\n", "")
