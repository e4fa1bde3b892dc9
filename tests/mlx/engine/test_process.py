"""A process ends properly whatever MLX is doing in it, by Ctrl-C or on its own."""

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

from tests.mlx.models import PATIENCE
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Process = subprocess.Popen[str]
    Start = Callable[..., Process]

NAME = "mlx/process"
FOREVER = 100_000  # tokens: minutes of work
BLOCKED = "generation_config.json"

# `python -m llm`, with Ctrl-C enabled even if the process that runs the tests ignores it.
LLM = """\
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("llm", run_name="__main__", alter_sys=True)
"""

SUBMIT = """\
import atexit, json, os, resource, signal, sys, warnings
from pathlib import Path
from queue import SimpleQueue
from llm_tiered.errors import EngineError
from llm_tiered.mlx.engine import engine
from llm_tiered.mlx.engine.requests import PROGRESS, CancelToken, GenerationRequest
from llm_tiered.mlx.engine.worker import Worker

def submit(max_tokens):
    chat = ({"role": "user", "content": "Hello"},)
    request = GenerationRequest("mlx/process", Path(sys.argv[1]), 10**9, chat, max_tokens)
    events = SimpleQueue()
    engine.ENGINE.submit(request, events.put, CancelToken())
    return events

def ask(max_tokens=3):
    try:
        events = submit(max_tokens)
    except EngineError as error:
        return error.message
    while isinstance(event := events.get(timeout=120), PROGRESS):
        pass
    return type(event).__name__

def report(**values):
    print(json.dumps(values), flush=True)
"""

# One process does all of this, because starting it takes a second. Functions that are registered
# before the first request run at exit after the engine was closed.
AT_WORK = f"""{SUBMIT}
def at_exit(parent=os.getpid()):
    if os.getpid() == parent:
        report(late=ask())

atexit.register(at_exit)
before = resource.getrlimit(resource.RLIMIT_NOFILE)
first = ask()
report(first=first, before=before, after=resource.getrlimit(resource.RLIMIT_NOFILE))
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks with threads
if os.fork() == 0:
    report(child=ask())
    sys.exit()
os.wait()
report(parent=ask())
report(generating=[ask({FOREVER}) for _ in range(3)])
"""
WHILE_LOADING = f"""{SUBMIT}
submit({FOREVER})
sys.stdin.read()
print("bye")
"""
INTERRUPTED_AT_EXIT = f"""{WHILE_LOADING}
signal.signal(signal.SIGINT, signal.default_int_handler)

def interrupted_join(self, timeout):
    # MLX is idle after a second, as when a person presses Ctrl-C.
    super(Worker, self).join(1)
    signal.raise_signal(signal.SIGINT)

Worker.join = interrupted_join
"""
IMPATIENT = f"""{WHILE_LOADING}
engine.SHUTDOWN_TIMEOUT = 0.1
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that can generate for minutes; read only."""
    return build("qwen2", tmp_path_factory.mktemp("process"), context=2 * FOREVER)


@pytest.fixture
def folder(model: Path, tmp_path: Path, config_file: Path) -> Path:
    """A copy of the model's folder, which the config names."""
    folder = shutil.copytree(model, tmp_path / "tiny")
    models = [{"id": NAME, "path": str(folder)}]
    config_file.write_text(json.dumps({"models": models, "keep_warm": 0}))
    return folder


def run(code: str, *arguments: str, stdin: int = subprocess.DEVNULL) -> Process:
    """Run Python code in a new process."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def start() -> Iterator[Start]:
    """Run Python code in a new process, which does not outlive the test."""
    processes: list[Process] = []

    def start(code: str, *arguments: str, stdin: int = subprocess.DEVNULL) -> Process:
        processes.append(run(code, *arguments, stdin=stdin))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        with process:
            pass  # waits for it, and closes its pipes


def prompt(*options: str) -> tuple[str, ...]:
    """Return the code and the arguments that ask for a long answer on llm's command line."""
    return (LLM, "prompt", "-m", NAME, "-o", "max_tokens", str(FOREVER), *options, "Hello")


def check_aborted(process: Process) -> None:
    """Assert that the process ends after Ctrl-C without a traceback."""
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert errors.strip() == "Aborted!"


def check_next_answer() -> None:
    """Assert that the model answers on the command line, and that only this answer is logged."""
    result = CliRunner().invoke(cli, ["-m", NAME, "-o", "max_tokens", "3", "Hello"])
    assert result.exit_code == 0
    turns = json.loads(CliRunner().invoke(cli, ["logs", "--json"]).stdout)
    assert [turn["response"] + "\n" for turn in turns] == [result.stdout]


def block(folder: Path) -> Path:
    """Replace a file that loading reads by a pipe, so that loading waits there."""
    pipe = folder / BLOCKED
    pipe.unlink()
    os.mkfifo(pipe)
    return pipe


def wait_until_read(pipe: Path, process: Process) -> int:
    """Wait until the process reads from the pipe, and return the pipe's other end."""
    while process.poll() is None:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        with suppress(subprocess.TimeoutExpired):  # it is not read yet
            process.wait(0.02)
    pytest.fail(f"the process ended before it read {pipe.name}: {process.communicate()}")


def unblock(pipe: Path, end: int) -> None:
    """Let loading continue, with an empty file."""
    pipe.unlink()
    pipe.write_text("{}")
    with suppress(BrokenPipeError):  # the process may have ended already
        os.write(end, b"{}")
    os.close(end)


def test_ctrl_c_while_generating(start: Start, folder: Path) -> None:
    """Ctrl-C ends an answer without logging it; the next one is complete and logged."""
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
    """Ctrl-C while a model is loading ends the process; the next one loads it and is logged."""
    pipe = block(folder)
    process = start(*prompt())
    end = wait_until_read(pipe, process)
    process.send_signal(signal.SIGINT)
    unblock(pipe, end)
    check_aborted(process)
    check_next_answer()


def test_ctrl_c_at_exit(start: Start, folder: Path) -> None:
    """Ctrl-C while an exiting process waits for the worker shows no traceback."""
    pipe = block(folder)
    process = start(INTERRUPTED_AT_EXIT, str(folder), stdin=subprocess.PIPE)
    end = wait_until_read(pipe, process)
    output, errors = process.communicate(timeout=PATIENCE)
    os.close(end)
    assert (output, errors) == ("bye\n", "")


def test_exit_while_loading(start: Start, folder: Path) -> None:
    """A process exits although a model is still loading, for example from a disk that hangs."""
    pipe = block(folder)
    process = start(IMPATIENT, str(folder), stdin=subprocess.PIPE)
    end = wait_until_read(pipe, process)
    output, errors = process.communicate(timeout=PATIENCE)
    os.close(end)
    assert (process.returncode, output, errors) == (0, "bye\n", "")


@pytest.fixture(scope="module")
def reports(model: Path) -> dict[str, object]:
    """The reports of a process that exits while it generates, with its exit code and stderr."""
    process = run(AT_WORK, str(model))
    output, errors = process.communicate(timeout=PATIENCE)
    reports: dict[str, object] = {"returncode": process.returncode, "stderr": errors}
    for line in output.splitlines():
        reports |= json.loads(line)
    return reports


def test_exit_while_generating(reports: dict[str, object]) -> None:
    """A process exits with code 0 and nothing on stderr, although requests are in flight."""
    assert reports["generating"] == ["Text"] * 3
    assert (reports["returncode"], reports["stderr"]) == (0, "")


def test_request_at_exit(reports: dict[str, object]) -> None:
    """A request while the process exits gets an error; a new worker would make MLX abort it."""
    assert reports["late"] == "the process is exiting: no more answers can be generated"


def test_forked_process(reports: dict[str, object]) -> None:
    """A request in a process forked from one that has used MLX gets an error instead of hanging."""
    assert reports["child"] == "MLX can't be used in a process forked from one that has used it"
    assert (reports["first"], reports["parent"]) == ("Text", "Text")


def test_limit_of_open_files(reports: dict[str, object]) -> None:
    """Loading a model leaves the limit of open files as it was, which mlx_lm would lower."""
    assert reports["before"] == reports["after"]
