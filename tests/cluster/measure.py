"""Measure batches on a Dask cluster: `python -m tests.cluster.measure PART [ROWS]`.

The parts are overhead, scaling, killed, many and log; scaling takes the number of waves and the
seconds of an answer in place of rows. Scheduler, workers and the command that runs
the batch are processes of this machine, as a user would start them; only the model is one that
waits.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]  # it has no types
import yaml

from llm_tiered.cluster.worker import RESOURCE
from llm_tiered.log import writer
from tests.batch.echo import say_prompt
from tests.stand_in import StandIn
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Requests at the same time on each worker.
AT_A_TIME = 16

# Seconds between two kills of a worker.
BETWEEN_KILLS = 10.0
MEGABYTE = 1e6


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@dataclass
class Cluster:
    """A scheduler and its workers, whose model takes `seconds` for an answer."""

    folder: Path
    seconds: float
    address: str = ""
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    scheduler: subprocess.Popen[bytes] | None = None
    started: int = 0

    def start(self, workers: int) -> None:
        """Start the scheduler and workers, and wait until they are there."""
        self.scheduler, log = self._dask("scheduler", "--port", "0")
        self.address = _captured(log, r"Scheduler at: +(tcp://\S+)")
        for log in [self.add_worker() for _ in range(workers)]:
            _captured(log, r"Registered to: +(\S+)")

    def add_worker(self) -> Path:
        """Start a worker, and return its log."""
        resources = ("--resources", f"{RESOURCE}={AT_A_TIME}", "--nthreads", "1", "--no-nanny")
        preload = ("--memory-limit", "0", "--preload", "tests.cluster.waiting")
        worker, log = self._dask("worker", self.address, *resources, *preload)
        self.workers.append(worker)
        return log

    def kill_worker(self) -> None:
        """Kill the oldest worker."""
        worker = self.workers.pop(0)
        worker.kill()
        worker.wait()

    def close(self) -> None:
        """End all processes."""
        for process in (*self.workers, self.scheduler):
            if process:
                process.kill()
                process.wait()

    def _dask(self, *command: str) -> tuple[subprocess.Popen[bytes], Path]:
        here = ("--host", "127.0.0.1", "--no-dashboard")
        settings = {"MODEL_SECONDS": str(self.seconds), "LLM_USER_PATH": str(self.folder)}
        self.started += 1
        log = self.folder / f"dask-{self.started}.log"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [_script("dask"), *command, *here], stderr=stderr, env=os.environ | settings
            )
        return process, log


@contextmanager
def cluster(folder: Path, workers: int, seconds: float = 0.0) -> Iterator[Cluster]:
    """Run a cluster."""
    started = Cluster(folder, seconds)
    try:
        started.start(workers)
        yield started
    finally:
        started.close()


@dataclass
class Batch:
    """What a batch took: seconds and CPU seconds of the command, its memory and answers by time."""

    seconds: float = 0.0
    cpu: float = 0.0
    memory: list[tuple[float, int]] = field(default_factory=list)
    answers: list[tuple[float, int]] = field(default_factory=list)
    errors: str = ""

    def rate(self, first: int = 0) -> float:
        """Return the rows a second from the first answers, so many of them, to the last."""
        before = [answers for answers in self.answers if answers[1] <= first]
        start, few = before[-1] if before else self.answers[0]
        end, all_of_them = self.answers[-1]
        return (all_of_them - few) / (end - start)


def run_batch(
    folder: Path,
    rows: int,
    workers: Cluster | None,
    *options: str,
    watch: Callable[[Batch], None] = lambda _: None,
    look: float = 0.05,
) -> Batch:
    """Run a batch of this many rows, each with a prompt of its own; `watch` sees it meanwhile.

    Without workers, the model is in the process of the command.
    """
    prompts = folder / f"{rows}.jsonl"
    if not prompts.exists():
        with prompts.open("w") as file:
            for number in range(rows):
                row = {"id": str(number), "prompt": f"Prompt number {number}", "complexity": 2}
                file.write(json.dumps(row) + "\n")
    files = (str(prompts), "-o", str(folder / "answers.jsonl"), "--restart")
    command = [sys.executable, "-m", "tests.cluster.alone", "tiered", "batch", *files, *options]
    if workers:
        command = [_script("llm"), *command[3:], "--dask", workers.address]
    batch = Batch()
    started = time.monotonic()
    errors, output = folder / "errors", folder / "answers.jsonl"
    output.write_bytes(b"")
    with (
        errors.open("w") as stderr,
        output.open("rb") as answers,
        subprocess.Popen(
            command, stderr=stderr, env={**os.environ, "LLM_USER_PATH": str(folder)}
        ) as process,
    ):
        seen, lines = psutil.Process(process.pid), 0
        try:
            while process.poll() is None:
                batch.seconds = time.monotonic() - started
                with suppress(psutil.Error):
                    times = seen.cpu_times()
                    batch.cpu = times.user + times.system
                    batch.memory.append((batch.seconds, seen.memory_info().rss))
                if new := answers.read().count(b"\n"):
                    lines += new
                    batch.answers.append((batch.seconds, lines))
                watch(batch)
                time.sleep(look)
        finally:
            process.kill()
    batch.errors = errors.read_text()
    return batch


def _captured(log: Path, pattern: str) -> str:
    """Return what a pattern captures in a log, once it is there."""
    while not (match := re.search(pattern, log.read_text())):
        time.sleep(0.1)
    return match[1]


def _script(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def overhead(folder: Path, rows: int = 4000) -> None:
    """Print what a row takes whose model takes no time, with Dask and without."""
    for label, options in (("logged", ()), ("not logged", ("-n",))):
        with cluster(folder, 2) as workers:
            there = 1000 / run_batch(folder, rows, workers, *options).rate()
        here = 1000 / run_batch(folder, rows, None, *options).rate()
        say(f"{label}: {there:.2f} ms a row with Dask, {here:.2f} ms without")


def scaling(folder: Path, waves: int = 10, seconds: int = 2) -> None:
    """Print how much faster eight workers are than one, with a model that only waits."""
    rates = []
    for number in (1, 8):
        with cluster(folder, number, seconds=seconds) as workers:
            wave = number * AT_A_TIME
            # All of the first wave come together, after the time of one answer.
            rates.append(run_batch(folder, waves * wave, workers).rate(wave))
        say(f"{number} workers: {rates[-1]:.1f} rows a second")
    say(f"ratio {rates[1] / rates[0]:.2f}")


def killed(folder: Path, rows: int = 6000) -> None:
    """Print what becomes of the rows if a worker is killed every ten seconds."""
    with cluster(folder, 3, seconds=0.5) as workers:
        kills = [time.monotonic()]

        def kill(_: Batch) -> None:
            if time.monotonic() - kills[-1] > BETWEEN_KILLS:
                kills.append(time.monotonic())
                workers.kill_worker()
                workers.add_worker()

        batch = run_batch(folder, rows, workers, watch=kill)
    with (folder / "answers.jsonl").open() as file:
        answers = [json.loads(line) for line in file]
    right = [
        answer for answer in answers if answer.get("response") == f"Prompt number {answer['id']}"
    ]
    with closing(sqlite3.connect(folder / "logs.db")) as log:
        [(turns, prompts)] = log.execute(
            "select count(*), count(distinct parent_message_hash) from turns"
        )
    ids = {answer["id"] for answer in right}
    say(f"{len(kills) - 1} kills in {batch.seconds:.0f} s: {rows} rows, {len(ids)} answered")
    say(f"{len(answers)} lines of output, {turns} turns in the log of {prompts} prompts")


def many(folder: Path, rows: int = 1_000_000) -> None:
    """Print the memory of the command after each hundredth of a long batch without logging."""
    said = 0

    def watch(batch: Batch) -> None:
        nonlocal said
        _, answers = batch.answers[-1] if batch.answers else (0, 0)
        if answers - said >= rows // 100 and batch.memory:
            seconds, memory = batch.memory[-1]
            said = answers
            say(f"{seconds:6.0f} s: {answers} rows, {memory / MEGABYTE:.0f} MB")

    with cluster(folder, 1) as workers:
        batch = run_batch(folder, rows, workers, "-n", watch=watch, look=1.0)
    say(f"{rows} rows in {batch.seconds:.0f} s, {batch.rate():.0f} a second")
    say(batch.errors.splitlines()[-1])


def log(folder: Path, rows: int = 5000) -> None:
    """Print how many answers the log takes in a second, alone and 32 at a time."""
    import llm

    os.environ["LLM_USER_PATH"] = str(folder)
    model = StandIn("other/echo", say_prompt)
    for at_a_time in (1, 32):
        responses = [model.prompt(f"Prompt {at_a_time} {number}") for number in range(rows)]
        for response in responses:
            response.text()
        groups = [responses[start : start + at_a_time] for start in range(0, rows, at_a_time)]
        started = time.monotonic()
        for group in groups:
            writer.write_all(group, Path(llm.user_dir(), "logs.db"))
        say(f"{at_a_time} at a time: {rows / (time.monotonic() - started):.0f} rows a second")


PARTS = {part.__name__: part for part in (overhead, scaling, killed, many, log)}


def _end(*_: object) -> None:
    raise SystemExit(1)


def main(part: str, *rows: str) -> None:
    """Measure a part in a folder of its own."""
    # Ctrl-C and SIGTERM leave no process behind.
    signal.signal(signal.SIGTERM, _end)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tiered").mkdir()
        model = build("qwen2", folder / "tiny")
        config = {
            "tiers": [{"name": "small", "complexity": "1-10", "model": "mlx/tiny"}],
            "models": [{"id": "mlx/tiny", "path": str(model)}],
            "keep_warm": 0,
        }
        (folder / "tiered" / "config.yaml").write_text(yaml.safe_dump(config))
        PARTS[part](folder, *map(int, rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
