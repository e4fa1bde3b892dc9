"""How models are tried in turn, and when the chain gives up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from llm_tiered.errors import AllTiersFailed
from llm_tiered.log.record import Attempt
from llm_tiered.router.attempts import COOLDOWN, Check, Cooldowns, Recall, Step, Try, Wait, run
from llm_tiered.router.candidates import Candidate
from llm_tiered.router.failures import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

A = Candidate("small", "mlx/a", local=True)
B = Candidate("cloud", "gemini/b", local=False)
C = Candidate("embedded", "mlx/c", local=True)

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
        )
        reply: Problem | None = None
        while True:
            try:
                step = chain.send(reply)
            except StopIteration as end:
                answered: Candidate = end.value
                return answered
            reply = self.answer(step)


def _outcomes(attempts: Sequence[Attempt]) -> list[tuple[str, str, str | None]]:
    return [(attempt.model, attempt.outcome, attempt.reason) for attempt in attempts]


def test_first_model_answers() -> None:
    """A model that can answer is checked and tried once; no other model is touched."""
    world = World()
    assert world.run(A, B, C) is A
    assert world.steps == [Check(A), Try(A)]
    assert world.attempts == [Attempt("small", "mlx/a", "ok", None, 0)]


def test_unfit_model_is_skipped() -> None:
    """A model that is known not to work is skipped, and the next one is tried."""
    world = World(checks={A.model: UNFIT})
    assert world.run(A, B, C) is B
    assert world.steps == [Check(A), Check(B), Try(B)]
    assert _outcomes(world.attempts) == [
        ("mlx/a", "skipped", "not downloaded"),
        ("gemini/b", "ok", None),
    ]


def test_failing_model_is_followed_by_the_next() -> None:
    """A model that fails is recorded as failed, and the next one answers."""
    world = World(tries={A.model: [BROKEN]})
    assert world.run(A, B, C) is B
    assert world.steps == [Check(A), Try(A), Check(B), Try(B)]
    assert _outcomes(world.attempts) == [
        ("mlx/a", "failed", "wrong options"),
        ("gemini/b", "ok", None),
    ]


def test_attempts_are_recorded_as_they_end() -> None:
    """Attempts are visible while the chain is still running."""
    attempts: list[Attempt] = []
    chain = run([A, B], Cooldowns(), attempts)
    assert next(chain) == Check(A)
    assert attempts == []
    assert chain.send(UNFIT) == Check(B)
    assert _outcomes(attempts) == [("mlx/a", "skipped", "not downloaded")]
    assert chain.send(None) == Try(B)
    assert len(attempts) == 1
    with pytest.raises(StopIteration) as end:
        chain.send(None)
    assert end.value.value is B
    assert len(attempts) == 2


def test_nothing_answers() -> None:
    """If nothing answers, the error lists every attempt with its reason and its fix."""
    world = World(checks={A.model: UNFIT}, tries={B.model: [BROKEN], C.model: [DOWN]})
    with pytest.raises(AllTiersFailed) as caught:
        world.run(A, B, C)
    assert str(caught.value).splitlines() == [
        "no model could answer:",
        "  small (mlx/a) skipped: not downloaded → llm tiered download mlx/a",
        "  cloud (gemini/b) failed: wrong options",
        "  embedded (mlx/c) failed: MLX failed",
    ]
    assert [attempt.outcome for attempt in world.attempts] == ["skipped", "failed", "failed"]


# Retries


def test_transient_problem_is_retried_twice() -> None:
    """A transient problem is retried after 1 and 4 seconds, and not a third time."""
    world = World(tries={A.model: [BUSY] * 5})
    assert world.run(A, B) is B
    assert world.steps == [
        *(Check(A), Try(A), Wait(1.0), Try(A), Wait(4.0), Try(A)),
        *(Check(B), Try(B)),
    ]
    assert _outcomes(world.attempts) == [
        ("mlx/a", "failed", "overloaded"),
        ("gemini/b", "ok", None),
    ]


@pytest.mark.parametrize(
    ("problems", "waited"), [([BUSY, None], [1.0]), ([BUSY, BUSY, None], [1.0, 4.0])]
)
def test_retry_that_helps(problems: list[Problem | None], waited: list[float]) -> None:
    """A model that answers after a retry has one attempt, and its outcome is ok."""
    world = World(tries={A.model: problems})
    assert world.run(A, B) is A
    assert [step.seconds for step in world.steps if isinstance(step, Wait)] == waited
    assert _outcomes(world.attempts) == [("mlx/a", "ok", None)]


def test_retry_that_meets_another_problem() -> None:
    """A retry that meets a lasting problem is the last one, and that problem is reported."""
    world = World(tries={A.model: [BUSY, BROKEN]})
    assert world.run(A, B) is B
    assert world.steps[:4] == [Check(A), Try(A), Wait(1.0), Try(A)]
    assert world.attempts[0].reason == "wrong options"


@pytest.mark.parametrize("problem", [BROKEN, DOWN])
def test_lasting_problem_is_not_retried(problem: Problem) -> None:
    """A problem that is not transient is met once."""
    world = World(tries={A.model: [problem]})
    world.run(A, B)
    assert world.steps.count(Try(A)) == 1
    assert not any(isinstance(step, Wait) for step in world.steps)


def test_skip_is_not_retried() -> None:
    """A skipped model is checked once, even if the reason is transient."""
    world = World(checks={A.model: BUSY})
    world.run(A, B)
    assert world.steps == [Check(A), Check(B), Try(B)]


# Time


@pytest.mark.parametrize(
    ("problems", "milliseconds"),
    [([], 250), ([BROKEN], 250), ([BUSY, None], 1500), ([BUSY] * 3, 5750)],
)
def test_milliseconds_of_an_attempt(problems: list[Problem | None], milliseconds: int) -> None:
    """An attempt's time includes all its tries and the waits between them."""
    world = World(tries={A.model: problems}, seconds_per_try=0.25)
    world.run(A, B)
    assert world.attempts[0].ms == milliseconds


def test_each_attempt_has_its_own_time() -> None:
    """Earlier attempts do not count towards an attempt's time."""
    world = World(tries={A.model: [BROKEN]}, seconds_per_try=0.25)
    world.run(A, B)
    assert [attempt.ms for attempt in world.attempts] == [250, 250]


# Cooling down


def test_failed_model_cools_down() -> None:
    """A model that would fail again is left alone for a minute; the reason says how long."""
    world = World(tries={A.model: [DOWN]})
    world.run(A, B)
    world.now += 15
    assert world.run(A, B) is B
    assert world.steps == [Check(B), Try(B)]
    assert _outcomes(world.attempts)[0] == (
        "mlx/a",
        "skipped",
        "cooling down for 45 s more after: MLX failed",
    )


def test_cooldown_runs_out() -> None:
    """After its minute the model is tried again, and not a second earlier."""
    world = World(tries={A.model: [DOWN]})
    world.run(A, B)
    world.now += COOLDOWN - 1
    assert world.run(A, B) is B
    world.now += 1
    assert world.run(A, B) is A


def test_skip_of_a_cooling_model_does_not_prolong_it() -> None:
    """Only a failure starts the minute; being skipped does not restart it."""
    world = World(tries={A.model: [DOWN]})
    world.run(A, B)
    for _ in range(3):
        world.now += 20
        answered = world.run(A, B)
    assert answered is A


def test_retries_that_help_start_no_cooldown() -> None:
    """A model that answered in the end is tried first the next time."""
    world = World(tries={A.model: [BUSY, BUSY, None]})
    assert world.run(A, B) is A
    assert world.run(A, B) is A


def test_failing_retries_start_a_cooldown() -> None:
    """A model that is overloaded on every try is left alone."""
    world = World(tries={A.model: [BUSY] * 3})
    assert world.run(A, B) is B
    assert world.cooldowns.check(A.model) is not None


def test_problem_of_the_request_starts_no_cooldown() -> None:
    """A problem with this request alone does not keep the next one from the model."""
    world = World(tries={A.model: [BROKEN]})
    assert world.run(A, B) is B
    assert world.run(A, B) is A


def test_skipped_model_does_not_cool_down() -> None:
    """A model that was only checked is tried as soon as the check passes."""
    world = World(checks={A.model: DOWN})
    assert world.run(A, B) is B
    world.checks.clear()
    assert world.run(A, B) is A


def test_cooldown_is_of_one_model() -> None:
    """Each model that failed in a run cools down; the others do not."""
    world = World(tries={A.model: [DOWN], B.model: [BROKEN]})
    assert world.run(A, B, C) is C
    assert world.cooldowns.check(A.model) is not None
    assert world.cooldowns.check(B.model) is None
    assert world.cooldowns.check(C.model) is None


def test_last_model_cools_down_too() -> None:
    """A model cools down even if it is the last: the next request must not wait for it."""
    world = World(tries={A.model: [DOWN]})
    with pytest.raises(AllTiersFailed):
        world.run(A)
    with pytest.raises(AllTiersFailed, match="cooling down for 60 s more after: MLX failed"):
        world.run(A)
    assert world.steps == []


def test_model_that_never_failed_is_ready() -> None:
    """Nothing cools down before its first failure, even when the clock starts at zero."""
    assert Cooldowns(lambda: 0.0).check("mlx/a") is None


# Earlier answers


def test_earlier_answer_is_enough() -> None:
    """A model with an earlier answer is neither checked nor tried."""
    world = World(remembered={A.model}, checks={A.model: UNFIT})
    assert world.run(A, B, recall=True) is A
    assert world.steps == [Recall(A)]
    assert world.attempts == [Attempt("small", "mlx/a", "ok", None, 0)]


def test_without_an_earlier_answer_it_is_asked() -> None:
    """Each model's earlier answers are searched when its turn comes."""
    world = World(remembered={B.model}, tries={A.model: [BROKEN]})
    assert world.run(A, B, recall=True) is B
    assert world.steps == [Recall(A), Check(A), Try(A), Recall(B)]


# Weak answers

WEAK = Problem("escalated: cut off", escalates=True, usable=True)
EMPTY = Problem("escalated: empty", escalates=True)
WRONG = Problem("escalated: no JSON", escalates=True, usable=True, correction="no JSON")
M = Candidate("medium", "mlx/m", local=True)
LADDER = (C, A, M, B)


def test_weak_answer_escalates() -> None:
    """After a weak answer the next larger model is tried, not the smaller ones."""
    world = World(tries={A.model: [WEAK]})
    assert world.run(A, C, B, ladder=LADDER) is M
    assert [attempt.model for attempt in world.attempts] == ["mlx/a", "mlx/m"]


def test_weak_answer_as_a_last_resort() -> None:
    """If no larger model answers, the weak answer of the largest one is used."""
    world = World(tries={A.model: [WEAK], M.model: [WEAK]}, checks={B.model: UNFIT})
    assert world.run(A, C, B, ladder=LADDER) is M
    assert _outcomes(world.attempts)[-1] == ("mlx/m", "ok", "no higher tier answered")


def test_empty_answer_escalates() -> None:
    """An answer that can't be shown escalates; if no larger model answers, the chain goes on."""
    world = World(tries={A.model: [EMPTY]}, checks={M.model: UNFIT, B.model: UNFIT})
    assert world.run(A, C, B, ladder=LADDER) is C
    assert [attempt.model for attempt in world.attempts] == ["mlx/a", "mlx/m", "gemini/b", "mlx/c"]


def test_correction_is_tried_once() -> None:
    """A model is corrected once, and then the next one is tried."""
    world = World(tries={A.model: [WRONG, None]})
    assert world.run(A, B, ladder=LADDER) is A
    assert world.steps == [Check(A), Try(A), Try(A, "no JSON")]
    world = World(tries={A.model: [WRONG, WRONG]})
    assert world.run(A, B, ladder=LADDER) is M


def test_weak_fallback_escalates_past_what_was_tried() -> None:
    """After a fallback's weak answer, only models that were not tried yet follow."""
    world = World(checks={M.model: UNFIT}, tries={A.model: [WEAK]})
    assert world.run(M, A, B, C, ladder=LADDER) is B
    assert [attempt.model for attempt in world.attempts] == ["mlx/m", "mlx/a", "gemini/b"]
