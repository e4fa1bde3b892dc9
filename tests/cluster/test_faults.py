"""What can go wrong with a batch on a cluster: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llm_tiered.cluster import roster, worker
from llm_tiered.errors import DownloadError
from llm_tiered.mlx.engine.requests import Done
from llm_tiered.mlx.tokens.decoding import Text
from tests.cli.batching import batch, parse, wrong_usage

ROOT = Path(__file__).parents[2]
PROMPTS = [f"Say {number}" for number in range(10)]
SECONDS = 60  # for a process on a busy machine


class Gate:
    """The engine of the workers: it answers as many prompts as the test lets through."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.tokens: list[Any] = []
        self.left = 10**9

    def resident(self) -> dict[str, Path]:
        """The only model."""
        return {"mlx/tiny": self.folder}

    def submit(self, request: Any, emit: Any, token: Any, *, wait: bool = True) -> bool:
        """Answer the prompt with itself, or never."""
        prompt = request.chat[-1]["content"]
        if self.left == 0:
            self.tokens.append(token)
            return True
        self.left -= 1
        self.asked.append(prompt)
        emit(Text(prompt))
        emit(Done("stop", 1, 0, 1, 1.0, 1.0, 1, None, None))
        return True


@pytest.fixture
def gate(tiny: Path, rows: str, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """The engine of all workers that are started in this process."""
    engine = Gate(tiny)
    monkeypatch.setattr(worker, "ENGINE", engine)
    return engine


def start(rows: str, output: Path, address: str) -> subprocess.Popen[str]:
    """Start a batch in a process of its own."""
    command = [sys.executable, "-m", "llm", "tiered", "batch", rows, "-o", str(output)]
    return subprocess.Popen(
        [*command, "--dask", address], cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ
    )


def wait_for(path: Path, lines: int) -> None:
    """Wait until a file has so many lines."""
    ended = threading.Event()
    for _ in range(SECONDS * 50):
        if path.exists() and path.read_bytes().count(b"\n") >= lines:
            return
        ended.wait(0.02)
    raise AssertionError(path.read_text() if path.exists() else "there is no file")


def turns(logs: Path) -> list[str]:
    """The answers in the log."""
    with closing(sqlite3.connect(logs)) as database:
        query = "select text from turns join parts on message_hash = tip_message_hash"
        return sorted(text for (text,) in database.execute(query))


@pytest.fixture
def sent(rows: str, tmp_path: Path) -> str:
    """The rows that may leave this machine."""
    lines = [line for line in Path(rows).read_text().splitlines() if "local_only" not in line]
    path = tmp_path / "sent.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def test_driver_is_killed(cluster: Any, gate: Gate, sent: str, tmp_path: Path, logs: Path) -> None:
    """A batch that is started again asks, and logs, only what it had not answered."""
    output, gate.left = tmp_path / "out", 3
    process = start(sent, output, cluster.scheduler_address)
    wait_for(tmp_path / "out.journal", 4)
    process.kill()
    process.communicate()
    gate.left = 100
    batch(sent, "-o", str(output), "--dask", cluster.scheduler_address)
    assert sorted(gate.asked) == PROMPTS[1:9]
    assert [answer["response"] for answer in parse(output.read_text())] == PROMPTS[1:9]
    logged = turns(logs)
    # An answer of which only the journal knows is not asked for again.
    assert len(logged) == len({*logged}) >= 5


def test_ctrl_c(cluster: Any, gate: Gate, sent: str, tmp_path: Path) -> None:
    """Ctrl-C ends the batch with what is answered, and the workers stop, too."""
    output, gate.left = tmp_path / "out", 3
    process = start(sent, output, cluster.scheduler_address)
    wait_for(tmp_path / "out.journal", 4)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert errors.endswith("Stopped: run the same command again to continue\n")
    assert len(parse(output.read_text())) == 3
    assert gate.tokens
    assert all(token.cancelled for token in gate.tokens)


def test_no_worker_has_the_model(
    cluster: Any, rows: str, gate: Gate, sent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row says what the workers lack and what to do, also after the first ones failed."""

    def missing(*_: Any) -> None:
        raise DownloadError(
            "not downloaded, and huggingface.co can't be reached", fix="llm tiered download"
        )

    monkeypatch.setattr(worker, "_here", missing)
    result = batch(
        sent, "--dask", cluster.scheduler_address, "--option", "fallback", "none", code=1
    )
    errors = [answer["error"] for answer in parse(result.stdout)]
    why = "no worker can run mlx/tiny: not downloaded, and huggingface.co can't be reached"
    assert len(errors) == 8
    assert {error.split(": ", 2)[2] for error in errors} == {
        f"{why.partition(': ')[2]} → on the workers: llm tiered download"
    }
    assert all(why in error for error in errors)


def test_no_worker_has_this_version(
    cluster: Any, rows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If all workers are left out for their version, the batch does not begin."""
    monkeypatch.setattr(roster, "_version_there", lambda: lambda: "0.0.1")
    address = cluster.scheduler_address
    assert wrong_usage(rows, "--dask", address) == (
        f"no worker at {address} has this version of llm-tiered "
        "(install the same version on all of them)"
    )
