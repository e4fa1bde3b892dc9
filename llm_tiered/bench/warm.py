"""What the engine that all processes share is good for, and what it costs."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import llm

from . import commands
from .engines import end_engine, engine_home, start_engine, used
from .figures import Figure, interleave, interleave_warm
from .home import Subject
from .parts import OPENING, QUESTIONS, REPLY
from .timing import ask, submit

if TYPE_CHECKING:
    from pathlib import Path

    from .parts import Bench

PROMPT = "Hello"

# Differences of milliseconds need more rounds than ratios do, and each round is short.
MORE_ROUNDS = 6

# Tokens of the answers whose CPU time is measured, and seconds for which an engine is left alone.
LONG_ANSWER = 256
IDLE = 5.0

# What an engine imports before it is ready.
IMPORTS = "import os, llm_tiered.mlx.process.main; os._exit(0)"


def commands_of(bench: Bench) -> list[Figure]:
    """Measure prompts on the command line, with the model in the engine's memory and without."""
    subject, runs, part = bench.subject, bench.plan.runs, bench.part("warm")
    with engine_home([subject], keep_warm="0") as cold, engine_home([subject]) as warm:

        def prompt(home: Path) -> float:
            return commands.ask(home, subject.model_id, PROMPT, max_tokens=1)

        def loaded(_: int) -> float:
            return commands.run(warm, "--version") + ask(bench.model, PROMPT, max_tokens=1).total

        # A model that is in this process's own memory is asked there.
        submit(bench.model, PROMPT, max_tokens=1)
        against_cold = interleave_warm(runs, lambda _: prompt(warm), lambda _: prompt(cold))
        against_loaded = interleave_warm(runs, lambda _: prompt(warm), loaded)
        turns = [_third_turns(bench, warm, cold) for _ in range(runs)]
    return [
        part.paired("warm", "s", against_cold, "no engine"),
        part.paired("warm_loaded", "s", against_loaded, "llm --version and an answer"),
        part.paired("warm_turn_3", "s", turns, "no engine", "llm -c, one token"),
    ]


def _third_turns(bench: Bench, warm: Path, cold: Path) -> tuple[float, float]:
    """Return the seconds of a chat's third prompt, with an engine and without.

    Each prompt has a process of its own, and only the third is slow without an engine, which has
    the same log.
    """
    model = bench.subject.model_id
    opening = f"{bench.prompts.new_system()} {bench.prompts.story(OPENING)}"
    commands.ask(warm, model, opening, max_tokens=REPLY)
    commands.ask(warm, model, QUESTIONS[2], max_tokens=REPLY, again=True)
    with (
        closing(sqlite3.connect(warm / "logs.db")) as log,
        closing(sqlite3.connect(cold / "logs.db")) as copy,
    ):
        log.backup(copy)
    last = partial(commands.ask, model=model, prompt=QUESTIONS[3], max_tokens=1, again=True)
    return last(warm), last(cold)


def engine(bench: Bench) -> list[Figure]:
    """Measure what an engine adds to an answer, and what it costs if nobody asks."""
    folder = bench.subject.folder
    own, shared = Subject("mlx/own", folder), Subject("mlx/shared", folder)
    with engine_home([own, shared]):
        return [*_start(bench), *_added(bench, own, shared)]


def _start(bench: Bench) -> list[Figure]:
    part = bench.part("warm")

    def ready(_: int) -> float:
        end_engine()
        started = time.perf_counter()
        start_engine()
        return time.perf_counter() - started

    def imported(_: int) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", IMPORTS], check=True)  # noqa: S603 - this Python
        return time.perf_counter() - started

    starts = interleave_warm(bench.plan.runs, ready, imported)
    idle = start_engine()
    before, memory = used(idle)
    time.sleep(IDLE)
    after, _ = used(idle)
    asking = used(idle)[0] - after
    idle_cpu = 1e3 * max(after - before - asking, 0) / IDLE
    return [
        part.paired("engine_start", "s", starts, "its imports"),
        part.median("engine_memory", "bytes", [memory], "not asked yet"),
        part.median("engine_idle", "ms", [idle_cpu], "each second"),
    ]


def _added(bench: Bench, own: Subject, shared: Subject) -> list[Figure]:
    part = bench.part("warm")
    here: Any = llm.get_model(own.model_id)
    there: Any = llm.get_model(shared.model_id)
    submit(here, PROMPT, max_tokens=1)
    running = start_engine()

    def first(model: Any) -> float:
        return 1e3 * ask(model, PROMPT, max_tokens=1).ttft

    def cpu(model: Any) -> float:
        before, _ = used(running)
        answer = ask(model, PROMPT, max_tokens=LONG_ANSWER)
        return 1e6 * (answer.cpu + used(running)[0] - before) / answer.output_tokens

    first(there)
    rounds = MORE_ROUNDS * bench.plan.runs
    firsts = interleave(rounds, lambda _: first(there), lambda _: first(here))
    cpus = interleave(rounds, lambda _: cpu(there), lambda _: cpu(here))
    return [
        part.median("engine_first_token", "ms", [one - other for one, other in firsts], "added"),
        part.median(
            "engine_processor", "µs", [one - other for one, other in cpus], "added to a token"
        ),
    ]
