"""What is measured between two models: the change from one to the other, and `tiered` on top."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import llm

from .ask import Answer, ask, submit
from .figures import Figure, Measured, in_turn
from .parts import empty

if TYPE_CHECKING:
    from .parts import Bench

PROMPT = "Say hello."

# Differences of milliseconds need more rounds than ratios; each of them is short.
MORE_ROUNDS = 10


def switch(bench: Bench, other: Bench) -> list[Figure]:
    """The change from the other model to this one, where both are in memory and where not."""
    together = bench.memory + other.memory <= bench.budget
    resident = [_resident(bench, other)] if together else []
    return [*resident, *_exchange(bench, other)]


def _resident(bench: Bench, other: Bench) -> Figure:
    """Milliseconds that a first token comes later because another model answered before."""
    empty()

    def first(before: Bench) -> float:
        # The prompt has been read before: what is left to do is one token.
        ask(before.model, PROMPT, max_tokens=1)
        return 1e3 * ask(bench.model, PROMPT, max_tokens=1).first

    first(other)
    rounds = MORE_ROUNDS * bench.plan.runs
    pairs = in_turn(rounds, lambda _: first(other), lambda _: first(bench))
    later = [switched - stayed for switched, stayed in pairs]
    note = f"after {other.subject.model_id}, both in memory"
    return bench.measured("switch").alone("switch", "ms", later, note)


def _exchange(bench: Bench, other: Bench) -> list[Figure]:
    """The first token where the other model has to go first, and where none is in memory."""
    budget = max(bench.memory, other.memory)
    largest = 0  # bytes, of the other one by itself

    def ask_within(one: Bench) -> Answer:
        return submit(one.model, PROMPT, max_tokens=1, budget=budget)

    def exchange(_: int) -> Answer:
        nonlocal largest
        empty()
        largest = max(largest, ask_within(other).peak_memory)
        return ask_within(bench)

    def load(_: int) -> Answer:
        empty()
        return ask_within(bench)

    pairs = list(in_turn(bench.plan.runs, exchange, load))
    firsts = [(one.first, alone.first) for one, alone in pairs]
    memory = [(one.peak_memory, max(alone.peak_memory, largest)) for one, alone in pairs]
    measured = bench.measured("switch")
    note = f"in the place of {other.subject.model_id}"
    return [
        measured.beside("exchange", "s", firsts, "no other", note),
        measured.beside("exchange_memory", "bytes", memory, "the larger one", note),
    ]


def overhead(bench: Bench) -> list[Figure]:
    """Milliseconds that `tiered` adds before the first token of the model that it picks."""
    tiered: Any = llm.get_model("tiered")

    def first(model: Any) -> float:
        return 1e3 * ask(model, PROMPT, max_tokens=1).first

    first(tiered)
    rounds = MORE_ROUNDS * bench.plan.runs
    pairs = in_turn(rounds, lambda _: first(tiered), lambda _: first(bench.model))
    later = [through - direct for through, direct in pairs]
    return [Measured("overhead").alone("tiered", "ms", later, "before the first token")]
