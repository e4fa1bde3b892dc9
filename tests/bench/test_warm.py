"""The engine that all processes share: what it is good for, and what it costs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llm_tiered.bench import commands, warm
from llm_tiered.mlx.process import client
from tests.bench.checking import by_name

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from llm_tiered.bench.parts import Bench


def test_commands(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts are compared with those of a home without an engine, which has the same chat."""
    bench.plan = replace(bench.plan, runs=1)
    chats: list[tuple[Path, int]] = []

    def run(home: Path, *arguments: str) -> float:
        with closing(sqlite3.connect(home / "logs.db")) as log, log:
            log.execute("create table if not exists prompts (prompt)")
            if "-c" in arguments:
                [(number,)] = log.execute("select count(*) from prompts").fetchall()
                chats.append((home, number))
            log.execute("insert into prompts values (?)", arguments[-1:])
        return 0.5

    monkeypatch.setattr(commands, "run", run)
    figures = by_name(warm.commands_of(bench))
    assert {name: (figure.unit, figure.against) for name, figure in figures.items()} == {
        "warm": ("s", "no engine"),
        "warm_loaded": ("s", "llm --version and an answer"),
        "warm_turn_3": ("s", "no engine"),
    }
    # The second turn, and the third one in both homes.
    (first, turns), *others = chats
    assert [number - turns for _, number in others] == [1, 1]
    assert [home == first for home, _ in others] == [True, False]


def test_engine(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start of an engine, its memory, its idle time and what it adds are measured."""
    bench.plan = replace(bench.plan, runs=1)
    for name, value in {"IDLE": 0.01, "LONG_ANSWER": 4, "MORE_ROUNDS": 2}.items():
        monkeypatch.setattr(warm, name, value)

    def once(_: int, one: Any, other: Any) -> list[tuple[float, float]]:
        return [(one(0), other(0))]

    monkeypatch.setattr(warm, "interleave_warm", once)
    figures = {figure.name: figure for figure in warm.engine(bench)}
    assert list(figures) == [
        *("engine_start", "engine_memory", "engine_idle", "engine_first_token"),
        "engine_processor",
    ]
    assert figures["engine_start"].against == "its imports"
    assert 20e6 < figures["engine_memory"].value < 120e6
    assert client.running() is None
