"""A soak of the shared engine and of the server: `python -m tests.soak.soak [SECONDS [SEED]]`.

Commands of llm and clients of `llm tiered serve` ask a few tiny models, more than memory holds, for
two minutes. Callers leave and are killed; the engine is killed, stopped and told to end; one model
is damaged, prompts are too long, bodies are wrong. Each request has to end with an answer or an
error of its own within a bound, memory has to stay flat, and no process may be left over. Prints
what happened as JSON, and exits with 1 if anything should not have happened.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import sqlite_utils
from llm.migrations import migrate

from llm_tiered.mlx.process import client as engines
from llm_tiered.mlx.process.place import places
from tests.soak import callers
from tests.soak.callers import Results
from tests.tiny_models import build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMMANDS, CLIENTS = 3, 6

# Megabytes by which the server may grow once all models have been in use.
GROWTH = 60.0

PORT = 18484


def configure(home: Path) -> None:
    """Write models, of which two fit into memory at a time, and the config."""
    folders = {
        "mlx/one": build("qwen2", home / "one", context=4096),
        "mlx/two": build("phi3", home / "two", context=4096, hidden=96),
        "mlx/three": build("qwen2", home / "three", context=2048, layers=3),
        "mlx/broken": build("qwen2", home / "broken"),
    }
    weights = folders["mlx/broken"] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    names = ("mlx/one", "mlx/two", "mlx/three")
    sizes = sorted((folders[name] / "model.safetensors").stat().st_size for name in names)
    config = {
        "models": [{"id": name, "path": str(path)} for name, path in folders.items()],
        "tiers": [
            {"name": "broken", "complexity": "1-4", "model": "mlx/broken"},
            {"name": "one", "complexity": "5-7", "model": "mlx/one"},
            {"name": "two", "complexity": "8-10", "model": "mlx/two"},
        ],
        "keep_warm": "1m",
        "memory_limit": f"{(sum(sizes[1:]) * 3) // 1_000_000 + 60} MB",
    }
    # llm itself fails if several first prompts make the tables of its log at once.
    migrate(sqlite_utils.Database(home / "logs.db"))
    (home / "tiered").mkdir()
    (home / "tiered" / "config.yaml").write_text(json.dumps(config))


@contextmanager
def server(log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `llm tiered serve`."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "llm", "tiered", "serve", "--port", str(PORT)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def harm(random: Random, results: Results) -> None:
    """Do something bad to the engine."""
    engine = engines.running()
    if engine is None:
        return
    pid = int(engine.status["pid"])
    what = random.choice(["kill", "kill", "terminate", "leave", "pause"])
    with suppress(ProcessLookupError):
        if what == "kill":
            os.kill(pid, signal.SIGKILL)
        elif what == "terminate":
            os.kill(pid, signal.SIGTERM)
        elif what == "pause":
            os.kill(pid, signal.SIGSTOP)
            time.sleep(2)
            os.kill(pid, signal.SIGCONT)
        else:
            engines.leave(engine, now=True)
    results.add(f"engine: {what}")
    time.sleep(1)
    for place in places():
        # As if the time had passed for which models are left alone after two crashes.
        place.crashes.unlink(missing_ok=True)


def megabytes(pid: int) -> float:
    """Return the memory of a process."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


def left_over(home: Path) -> list[str]:
    """Return the commands of the processes that have this user directory, but for this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            environment = (folder / "environ").read_bytes()
            if int(folder.name) != os.getpid() and str(home).encode() in environment:
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if command:
                    found.append(f"{folder.name} {command.strip()}")
    return found


def soak(seconds: float, seed: int, home: Path) -> tuple[Results, dict[str, object]]:
    """Let everybody ask for so long; return how it ended, and what was measured."""
    results, random = Results(), Random(seed)
    memory: list[float] = []
    with server(home / "server.log") as process:
        while engines.running() is None:
            time.sleep(0.1)
        ends = time.monotonic() + seconds

        def repeat(work: Callable[[Random], None], own: Random) -> None:
            while time.monotonic() < ends:
                try:
                    work(own)
                except Exception as error:
                    results.blame(f"the soak itself: {error!r}")

        workers = [
            *[lambda own: callers.command(own, results)] * COMMANDS,
            *[lambda own: callers.client(PORT, own, results)] * CLIENTS,
        ]
        threads = [
            threading.Thread(target=repeat, args=(worker, Random(random.random())))
            for worker in workers
        ]
        for thread in threads:
            thread.start()
        while time.monotonic() < ends:
            time.sleep(min(random.uniform(4, 9), max(ends - time.monotonic(), 0)))
            harm(random, results)
            memory.append(megabytes(process.pid))
        for thread in threads:
            thread.join()
        memory.append(megabytes(process.pid))
        if process.poll() is not None:
            results.blame(f"the server ended with {process.returncode}")
    if engine := engines.running():
        engines.end(engine, now=True, on_wait=lambda: None)
    time.sleep(1)
    for command in left_over(home):
        results.blame(f"left over: {command}")
    grown = memory[-1] - memory[len(memory) // 3]
    if grown > GROWTH:
        results.blame(f"the server grew by {grown:.0f} MB")
    if "Traceback" in (log := (home / "server.log").read_text()):
        results.blame(f"the server's log: {log[log.index('Traceback') :][:1500]}")
    return results, {"server_megabytes": [round(each) for each in memory]}


def main() -> None:
    """Run the soak in a user directory of its own."""
    numbers = [int(each) for each in sys.argv[1:]]
    seconds, seed = [*numbers, *(120, 0)[len(numbers) :]]
    with tempfile.TemporaryDirectory(prefix="soak.") as name:
        os.environ |= {"LLM_USER_PATH": name, "HF_HUB_OFFLINE": "1"}
        configure(Path(name))
        results, measured = soak(seconds, seed, Path(name))
        engine_logs = [place.log.read_text() for place in places() if place.log.exists()]
    report = {
        "ends": dict(sorted(results.ends.items())),
        "errors": dict(results.errors.most_common()),
        **measured,
        "offences": results.offences,
        "engine_log": "".join(engine_logs)[-3000:],
    }
    sys.stdout.write(f"{json.dumps(report, indent=2)}\n")
    sys.exit(bool(results.offences))


if __name__ == "__main__":
    main()
