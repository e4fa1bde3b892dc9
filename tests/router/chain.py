"""A chain of attempts in a world without models, whose time only it moves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llm_tiered.router.attempts import Check, Recall, Step, Wait, run
from llm_tiered.router.candidates import Candidate
from llm_tiered.router.cooldowns import Cooldowns
from llm_tiered.router.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llm_tiered.log.record import Attempt

A = Candidate("small", "mlx/a", place="here")
B = Candidate("cloud", "gemini/b", place="cloud")
C = Candidate("embedded", "mlx/c", place="here")

UNFIT = Problem("not downloaded", fix="llm tiered download mlx/a")
BROKEN = Problem("wrong options")
DOWN = Problem("MLX failed", cools_down=True)
BUSY = Problem("overloaded", transient=True, cools_down=True)


@dataclass
class World:
    """Everything outside the chain: what checks and tries meet, and the time.

    `tries` holds what each try of a model meets, in order; without one it answers.
    """

    checks: dict[str, Problem] = field(default_factory=dict)
    tries: dict[str, list[Problem | None]] = field(default_factory=dict)
    remembered: set[str] = field(default_factory=set)
    keys: dict[str, str] = field(default_factory=dict)
    seconds_per_try: float = 0.0
    now: float = 100.0
    steps: list[Step] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cooldowns = Cooldowns(self.clock)

    def clock(self) -> float:
        """The time, in seconds."""
        return self.now

    def answer(self, step: Step) -> Problem | None:
        """Do what the chain asks for."""
        self.steps.append(step)
        if isinstance(step, Wait):
            self.now += step.seconds
            return None
        if isinstance(step, Check):
            return self.checks.get(step.candidate.model)
        if isinstance(step, Recall):
            return None if step.candidate.model in self.remembered else UNFIT
        self.now += self.seconds_per_try
        script = self.tries.get(step.candidate.model)
        return script.pop(0) if script else None

    def run(
        self, *candidates: Candidate, ladder: Sequence[Candidate] = (), recall: bool = False
    ) -> Candidate:
        """Drive one run of the chain to its end."""
        self.steps, self.attempts = [], []
        chain = run(
            candidates,
            self.cooldowns,
            self.attempts,
            self.clock,
            ladder=ladder,
            recall=recall,
            key_in_use=self.keys.get,
        )
        reply: Problem | None = None
        while True:
            try:
                step = chain.send(reply)
            except StopIteration as end:
                answered: Candidate = end.value
                return answered
            reply = self.answer(step)


def outcomes(attempts: Sequence[Attempt]) -> list[tuple[str, str, str | None]]:
    """The model, the outcome and the reason of each attempt."""
    return [(attempt.model, attempt.outcome, attempt.reason) for attempt in attempts]


def asks_to_wait(seconds: float) -> Problem:
    """The problem of a model that says when to ask again."""
    return Problem("busy", transient=True, cools_down=True, at_limit=True, retry_after=seconds)
