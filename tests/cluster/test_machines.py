"""The README's way to several machines, with its commands."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llm_tiered.cluster import roster
from llm_tiered.cluster.engine import ClusterEngine
from tests.cli.batching import batch, parse, write_rows
from tests.test_readme import README

if TYPE_CHECKING:
    from collections.abc import Iterator

[COMMANDS] = re.findall(r"```bash\n(dask scheduler\n.*?)```", README, re.DOTALL)
SCHEDULER, WORKER, BATCH = (shlex.split(line) for line in COMMANDS.splitlines())
ADDRESS = "tcp://mac-mini:8786"


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command of Dask, which ends with the context."""
    path = Path(sys.executable).parent / command[0]
    process = subprocess.Popen([str(path), *command[1:]], stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line_of(process: subprocess.Popen[str], pattern: str) -> str:
    """Return what a pattern has captured in the first line of the log that it fits."""
    assert process.stderr
    return next(match[1] for line in process.stderr if (match := re.search(pattern, line)))


@pytest.fixture
def machines(user_path: Path) -> Iterator[tuple[str, list[int]]]:
    """A scheduler's address, and the ids of its process and those of two workers."""
    here = ("--host", "127.0.0.1", "--no-dashboard")
    with ExitStack() as stack:
        scheduler = stack.enter_context(running(*SCHEDULER, "--port", "0", *here))
        address = line_of(scheduler, r"Scheduler at: +(tcp://\S+)")
        command = [address if word == ADDRESS else word for word in WORKER]
        workers = [stack.enter_context(running(*command, "--no-nanny", *here)) for _ in range(2)]
        for worker in workers:
            line_of(worker, r"Registered to: +(\S+)")
        yield address, [scheduler.pid, *(worker.pid for worker in workers)]


def test_worker_is_killed(
    machines: tuple[str, list[int]], rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a machine is switched off, the other one answers what it had not sent, in order."""
    address, alive = machines
    file = write_rows(tmp_path, *({"prompt": f"Say {n}", "complexity": 3} for n in range(40)))
    take = ClusterEngine._take

    def kill_one(self: ClusterEngine, *args: Any) -> None:
        if len(alive) == 3:
            os.kill(alive.pop(), signal.SIGKILL)
        take(self, *args)

    here = batch(file, "--no-log").stdout
    monkeypatch.setattr(ClusterEngine, "_take", kill_one)
    options = [address if word == ADDRESS else word for word in BATCH[BATCH.index("--dask") :]]
    answers, expected = parse(batch(file, *options).stdout), parse(here)
    names = ("line", "model", "response", "input_tokens", "output_tokens")
    assert [[answer[name] for name in names] for answer in answers] == [
        [answer[name] for name in names] for answer in expected
    ]
    assert len(alive) == 2


def test_scheduler_is_killed(
    machines: tuple[str, list[int]], rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the scheduler, the batch ends with what is answered, and can be continued here."""
    address, alive = machines
    file = write_rows(tmp_path, *({"prompt": f"Say {n}", "complexity": 3} for n in range(60)))
    take = ClusterEngine._take

    def kill_scheduler(self: ClusterEngine, *args: Any) -> None:
        if len(alive) == 3:
            os.kill(alive.pop(0), signal.SIGKILL)
        take(self, *args)

    monkeypatch.setattr(ClusterEngine, "_take", kill_scheduler)
    monkeypatch.setattr(roster, "INTERVAL", 0.1)
    output = tmp_path / "out"
    errors = batch(file, "-o", str(output), "--dask", address, code=1).stderr
    assert errors.endswith(
        "Stopped: the Dask scheduler is gone; run the same command again to continue\n"
    )
    assert 0 < len(parse(output.read_text())) < 60
    assert "skipped as done" in batch(file, "-o", str(output)).stderr
    assert len(parse(output.read_text())) == 60
