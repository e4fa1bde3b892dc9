"""The parts that measure two models: switching between them, and the overhead of `tiered`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import llm

from .figures import Figure, Part, interleave
from .parts import unload_all
from .timing import TimedAnswer, ask, submit

if TYPE_CHECKING:
    from .parts import Bench

PROMPT = "Say hello."

# Differences of milliseconds need more rounds than ratios do, and each round is short.
MORE_ROUNDS = 10


def switch(bench: Bench, other: Bench) -> list[Figure]:
    """Measure the switch from the other model to this one: with both in memory, and with one."""
    fit_together = bench.memory + other.memory <= bench.budget
    resident = [_resident(bench, other)] if fit_together else []
    return [*resident, *_exchange(bench, other)]


def _resident(bench: Bench, other: Bench) -> Figure:
    """Measure how much later a first token is, in ms, if the other model answered before."""
    unload_all()

    def ttft_after(before: Bench) -> float:
        # The KV cache holds the prompt, so the only work is one token.
        ask(before.model, PROMPT, max_tokens=1)
        return 1e3 * ask(bench.model, PROMPT, max_tokens=1).ttft

    ttft_after(other)
    rounds = MORE_ROUNDS * bench.plan.runs
    pairs = interleave(rounds, lambda _: ttft_after(other), lambda _: ttft_after(bench))
    delays = [switched - stayed for switched, stayed in pairs]
    note = f"after {other.subject.model_id}, both in memory"
    return bench.part("switch").median("switch", "ms", delays, note)


def _exchange(bench: Bench, other: Bench) -> list[Figure]:
    """Measure the time to first token when the other model has to be evicted first.

    The baseline begins with no model in memory. The memory budget holds one model at a time.
    """
    budget = max(bench.memory, other.memory)
    other_peak = 0  # bytes

    def ask_within_budget(one: Bench) -> TimedAnswer:
        return submit(one.model, PROMPT, max_tokens=1, budget=budget)

    def exchange(_: int) -> TimedAnswer:
        nonlocal other_peak
        unload_all()
        other_peak = max(other_peak, ask_within_budget(other).peak_memory)
        return ask_within_budget(bench)

    def load(_: int) -> TimedAnswer:
        unload_all()
        return ask_within_budget(bench)

    pairs = list(interleave(bench.plan.runs, exchange, load))
    ttfts = [(after.ttft, alone.ttft) for after, alone in pairs]
    memory = [(after.peak_memory, max(alone.peak_memory, other_peak)) for after, alone in pairs]
    part = bench.part("switch")
    note = f"replaces {other.subject.model_id}"
    return [
        part.paired("exchange", "s", ttfts, "no other model", note),
        part.paired("exchange_memory", "bytes", memory, "the larger model alone", note),
    ]


def overhead(bench: Bench) -> list[Figure]:
    """Measure the milliseconds that `tiered` adds to the time to first token of its model."""
    tiered: Any = llm.get_model("tiered")

    def ttft(model: Any) -> float:
        return 1e3 * ask(model, PROMPT, max_tokens=1).ttft

    ttft(tiered)
    rounds = MORE_ROUNDS * bench.plan.runs
    pairs = interleave(rounds, lambda _: ttft(tiered), lambda _: ttft(bench.model))
    differences = [through_tiered - direct for through_tiered, direct in pairs]
    return [Part("overhead").median("tiered", "ms", differences, "added to time to first token")]
